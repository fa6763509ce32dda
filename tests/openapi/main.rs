//! Checks the management API against its OpenAPI document with schemathesis.
//!
//! Schemathesis generates hundreds of requests that match the document, and hundreds that do not,
//! and sends them over TCP. See `tests/peers/schemathesis`.
//!
//! If schemathesis is not installed, the tests are reported as ignored, or fail if
//! `SERVICE_TOKEN_REQUIRE_SERVICES=1` is set. `.ci/run` installs it.

mod server;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed};
use test_support::optional_trial::optional_trial;
use tower_service_token::store::TokenRecord;

use self::server::{OTHER_USER, Server, USER};

/// The check that a deleted resource is gone. `DELETE` revokes a token and keeps its record, so
/// that the holder learns why the token is rejected.
const NOT_APPLICABLE: &str = "use_after_free";

type Test = fn() -> Result<(), Failed>;

/// Limits one run, which takes about 30 s on an idle machine.
const SCHEMATHESIS_TIMEOUT: Duration = Duration::from_secs(900);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tests: [(&str, Test); 3] = [
        ("api_matches_its_document", api_matches_its_document),
        (
            "api_of_users_matches_its_document",
            api_of_users_matches_its_document,
        ),
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

/// A user creates and changes tokens, and none of another user.
fn api_of_users_matches_its_document() -> Result<(), Failed> {
    let (server, tokens) = Server::start_for_users();
    let (status, output) = check(&server, "all", 25)?;
    if !status.success() {
        return Err(Failed::from(output));
    }
    let own = server.tokens_of(&tokens, USER);
    assert!(own.len() > 10, "{} tokens were created", own.len());
    let foreign = server.tokens_of(&tokens, OTHER_USER);
    let foreign: Vec<_> = foreign.iter().map(TokenRecord::revision).collect();
    assert_eq!(foreign, [1]);
    Ok(())
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
            let output = format!("{checks} did not detect the mismatch ({status}):\n{output}");
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

/// Returns the reason why schemathesis cannot run, if it is not installed.
fn missing_program() -> Option<String> {
    let reason =
        "schemathesis is not installed; install it with python3 -m venv and pip as .ci/run does";
    (!program().exists()).then(|| reason.to_owned())
}

/// Runs these checks with this many generated requests per operation. Returns the exit status and
/// the output.
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
        .env("SERVICE_TOKEN", server.secret())
        .current_dir(&server.folder)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let mut child = command.spawn()?;
    let status = wait_with_timeout(&mut child)?;
    let output = std::fs::read_to_string(&log)?;
    match status {
        Some(status) => Ok((status, output)),
        None => Err(Failed::from(format!("schemathesis timed out:\n{output}"))),
    }
}

/// Waits for the exit status. Kills the process and returns `None` after the timeout.
fn wait_with_timeout(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + SCHEMATHESIS_TIMEOUT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}
