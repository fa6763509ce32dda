//! The management API against its own document, by schemathesis: requests that the document allows
//! and requests that it does not, hundreds of each, over a socket; see `tests/peers/schemathesis`.
//!
//! Where it is not installed, as `.ci/run` does it, the tests are reported as ignored; with
//! `SERVICE_TOKEN_REQUIRE_SERVICES=1` in the environment they fail instead.

mod server;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed};
use test_support::optional_trial::optional_trial;

use self::server::Server;

/// That nothing is there after `DELETE`: it revokes a token, whose record stays, so that its holder
/// is told why it is refused.
const NOT_APPLICABLE: &str = "use_after_free";

type Test = fn() -> Result<(), Failed>;

/// Longer than any run takes on a busy machine; by itself one takes half a minute.
const SCHEMATHESIS_TIMEOUT: Duration = Duration::from_secs(900);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tests: [(&str, Test); 2] = [
        ("api_matches_its_document", api_matches_its_document),
        (
            "detects_apis_that_do_not_match",
            detects_apis_that_do_not_match,
        ),
    ];
    let missing_program = missing_program();
    let trials = tests.map(|(name, test)| {
        let reason = missing_program.clone();
        let run = move || reason.map_or_else(test, |reason| Err(Failed::from(reason)));
        optional_trial(missing_program.as_ref(), name.to_owned(), run)
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

fn api_matches_its_document() -> Result<(), Failed> {
    let (status, output) = check(&Server::start(), "all", 25)?;
    if status.success() {
        Ok(())
    } else {
        Err(Failed::from(output))
    }
}

fn detects_apis_that_do_not_match() -> Result<(), Failed> {
    for (server, checks, expected) in [
        (
            Server::start_without_roles(),
            "response_schema_conformance",
            "\"roles\" is a required property",
        ),
        (
            Server::start_without_guard(),
            "ignored_auth",
            "API accepts requests without authentication",
        ),
    ] {
        let (status, output) = check(&server, checks, 5)?;
        if status.code() != Some(1) || !output.contains(expected) {
            let output = format!("{checks} did not see it ({status}):\n{output}");
            return Err(Failed::from(output));
        }
    }
    Ok(())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/schemathesis")
}

fn program() -> PathBuf {
    folder().join(".venv/bin/schemathesis")
}

/// Why it cannot be run.
fn missing_program() -> Option<String> {
    let how = "not installed: python3 -m venv and pip, as .ci/run does";
    (!program().exists()).then(|| how.to_owned())
}

/// Runs these checks, with so many requests made up for each call; how it ended, and what it told.
fn check(server: &Server, checks: &str, examples: u32) -> Result<(ExitStatus, String), Failed> {
    let log = server.folder.join("schemathesis.log");
    let output = File::create(&log)?;
    let mut command = Command::new(program());
    command
        .arg("--config-file")
        .arg(folder().join("schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", server.url), "--no-color"])
        .args(["--checks", checks, "--max-examples", &examples.to_string()])
        .args(["--seed", "20261122"])
        .args(["--exclude-checks", NOT_APPLICABLE])
        .args(["--generation-database", "none", "--request-timeout", "60"])
        .env("SERVICE_TOKEN", server.token())
        .current_dir(&server.folder)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let mut child = command.spawn()?;
    let status = ended(&mut child)?;
    let output = std::fs::read_to_string(&log)?;
    match status {
        Some(status) => Ok((status, output)),
        None => Err(Failed::from(format!("it does not end:\n{output}"))),
    }
}

/// How it ended, if it did so in time.
fn ended(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let end = Instant::now() + SCHEMATHESIS_TIMEOUT;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}
