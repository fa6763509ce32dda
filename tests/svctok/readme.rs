//! Checks README.md and the guide.
//!
//! 1. A session is a block of `console`: a command after `$ `, and its output below it. The sessions of
//!    a page run in one shell and one directory, in their order. Only the port differs.
//! 2. Tokens, ids, times, dates and versions are compared by their form, everything else literally.
//! 3. The metrics and the options of `svctok serve` on the guide's page are those of the source.
//! 4. Links between documents, their anchors, and the paths that they name lead somewhere.

use std::collections::BTreeSet;
use std::env;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::mpsc::Receiver;
use std::thread;

use axum::{Router, routing::get};
use libtest_mimic::{Arguments, Failed, Trial};
use regex::Regex;
use tokio::runtime::Runtime;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, ServiceTokens};

use test_support::optional_trial::optional_trial;
use test_support::process::{PROCESS_TIMEOUT, lines};

const README: &str = "README.md";
const SVCTOK: &str = "src/guide/svctok.md";

const DOCUMENTS: [&str; 7] = [
    README,
    "CHANGELOG.md",
    "COMPARISON.md",
    "CONTRIBUTING.md",
    "DESIGN.md",
    "SECURITY.md",
    "benches/README.md",
];

const README_LIMIT: usize = 9_000;

/// Printed by the shell after each command.
const DONE: &str = "-- done --";

/// The first example of the README, literally but for white space.
async fn app() -> Result<Router, Box<dyn Error>> {
    let store = MemoryStore::new();
    let issued = ServiceTokens::new(store.clone())
        .create(NewToken::new("ci"))
        .await?;
    println!("token: {}", issued.expose_secret());
    Ok(Router::new()
        .route(
            "/whoami",
            get(|caller: Principal| async move { caller.name().to_owned() }),
        )
        .route_layer(ServiceTokenLayer::new(store))
        .route("/healthz", get(|| async { "ok\n" }))) // public: added after the layer
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let has_curl = Command::new("curl")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let missing = (!has_curl).then(|| "there is no curl".to_owned());
    let readme = "the_readme_session_runs_as_printed".to_owned();
    let guide = "the_sessions_of_the_svctok_guide_run_as_printed".to_owned();
    let trials = vec![
        optional_trial(missing.as_ref(), readme, readme_session),
        optional_trial(missing.as_ref(), guide, svctok_sessions),
        Trial::test("the_first_example_is_the_one_that_is_tested", first_example),
        Trial::test("the_readme_is_at_most_9_kb", readme_size),
        Trial::test("the_guide_lists_the_metrics_of_the_source", metrics),
        Trial::test("the_guide_lists_the_options_of_serve", options),
        Trial::test("links_between_documents_resolve", links),
        Trial::test("paths_in_documents_exist", paths),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn readme_session() -> Result<(), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    listener.set_nonblocking(true)?;
    thread::spawn(move || {
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let app = app().await.expect("the example runs");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            axum::serve(listener, app).await.expect("serving");
        });
    });
    run_sessions(
        README,
        Session::new("readme", "127.0.0.1:3000", address)?,
        1,
    )
}

fn svctok_sessions() -> Result<(), Failed> {
    let address = "127.0.0.1:8080";
    let session = Session::new("svctok_guide", address, address.to_owned())?;
    run_sessions(SVCTOK, session, 20)
}

fn run_sessions(page: &str, mut session: Session, at_least: usize) -> Result<(), Failed> {
    let steps = steps(page, &read(page)?);
    assert!(steps.len() >= at_least, "{page} has {} steps", steps.len());
    for step in steps {
        let printed = session.run(&step.command);
        assert_eq!(
            normalize(&printed),
            normalize(&step.output),
            "{page}:{}: $ {}",
            step.line,
            step.command
        );
    }
    Ok(())
}

fn first_example() -> Result<(), Failed> {
    let dense = |text: &str| {
        text.split_whitespace()
            .collect::<String>()
            .replace(",)", ")")
    };
    let readme = read(README)?;
    let block = readme.split("```rust\n").nth(1).expect("an example");
    let block = block.split("```").next().expect("a fence");
    let code = &block[block.find("async fn app").expect("a function")..];
    let code = code.replace("Box<dyn std::error::Error>", "Box<dyn Error>");
    assert!(
        dense(include_str!("readme.rs")).contains(&dense(&code)),
        "the first example of {README} differs from the one in this file"
    );
    Ok(())
}

fn readme_size() -> Result<(), Failed> {
    let size = read(README)?.len();
    assert!(size <= README_LIMIT, "{README} has {size} bytes");
    Ok(())
}

fn metrics() -> Result<(), Failed> {
    let used = Regex::new(
        r#"(?:\b(?:count|counter|gauge|histogram)!|\b\w+::new|=> )\(\s*"((?:svctok|service_token)_[a-z_]+)""#,
    )?;
    let mut in_source = BTreeSet::new();
    for file in files(&root().join("src"), "rs")? {
        in_source.extend(captures(&used, &fs::read_to_string(file)?));
    }
    let row = Regex::new(r"(?m)^\| `((?:svctok|service_token)_[a-z_]+)` \|")?;
    let in_guide = captures(&row, &read(SVCTOK)?);
    assert!(in_source.len() > 20, "{in_source:?}");
    assert_eq!(in_guide, in_source);
    Ok(())
}

fn options() -> Result<(), Failed> {
    let help = Command::new(env!("CARGO_BIN_EXE_svctok"))
        .args(["serve", "--help"])
        .output()?;
    let option = Regex::new(r"(?m)^ +(?:-\w, )?(--[a-z-]+)(?: <.*>)?$")?;
    let mut in_help = captures(&option, &String::from_utf8(help.stdout)?);
    in_help.retain(|option| !["--help", "--output", "--quiet"].contains(&option.as_str()));
    let row = Regex::new(r"(?m)^\| `(--[a-z-]+)` \|")?;
    let in_guide = captures(&row, &read(SVCTOK)?);
    assert!(in_help.len() > 10, "{in_help:?}");
    assert_eq!(in_guide, in_help);
    Ok(())
}

fn links() -> Result<(), Failed> {
    let link = Regex::new(r"\]\(([^)\s]+)\)")?;
    let mut found = 0;
    for document in DOCUMENTS {
        let text = read(document)?;
        let folder = root().join(document);
        let folder = folder.parent().expect("a folder");
        for target in captures(&link, &text) {
            if target.contains("://") {
                continue;
            }
            found += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let text = if path.is_empty() {
                text.clone()
            } else {
                let path = folder.join(path);
                assert!(path.exists(), "{document}: {target}");
                fs::read_to_string(path).unwrap_or_default()
            };
            let mut headings = text.lines().filter(|line| line.starts_with('#'));
            assert!(
                anchor.is_empty() || headings.any(|heading| slug(heading) == anchor),
                "{document}: {target}"
            );
        }
    }
    assert!(found > 20, "{found} links");
    Ok(())
}

fn paths() -> Result<(), Failed> {
    let path = Regex::new(r"`((?:\.ci|benches|examples|src|tests)/[\w./-]+)")?;
    let mut found = 0;
    for document in DOCUMENTS {
        for path in captures(&path, &read(document)?) {
            found += 1;
            // A placeholder such as `tests/NAME`.
            if !path.contains("NAME") {
                assert!(root().join(&path).exists(), "{document}: {path}");
            }
        }
    }
    assert!(found > 20, "{found} paths");
    Ok(())
}

/// Returns the anchor that GitHub gives a heading.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn captures(pattern: &Regex, text: &str) -> BTreeSet<String> {
    let captures = pattern.captures_iter(text);
    captures.map(|found| found[1].to_owned()).collect()
}

fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Failed> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, extension)?);
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    Ok(found)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(document: &str) -> Result<String, Failed> {
    let text = fs::read_to_string(root().join(document));
    text.map_err(|error| format!("{document}: {error}").into())
}

/// A command of a session, and its output.
struct Step {
    line: usize,
    command: String,
    output: String,
}

fn steps(page: &str, text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_within = false;
    for (number, line) in text.lines().enumerate() {
        match (is_within, line) {
            (false, "```console") => is_within = true,
            (true, "```") => is_within = false,
            (true, line) => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step {
                    line: number + 1,
                    command: command.to_owned(),
                    output: String::new(),
                }),
                (None, Some(step)) if step.command.ends_with('\\') => {
                    step.command.push('\n');
                    step.command.push_str(line);
                }
                (None, Some(step)) => {
                    step.output.push_str(line);
                    step.output.push('\n');
                }
                (None, None) => panic!("{page}:{}: output without a command", number + 1),
            },
            (false, _) => {}
        }
    }
    steps
}

/// Replaces what differs from run to run by its kind.
fn normalize(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, kind) in [
        (
            r"\bsvctok-[0-9A-Za-z]{10}_[0-9A-Za-z]{30}\b",
            "svctok-TOKEN",
        ),
        (r"\bsvctok-[0-9A-Za-z]{10}_\*\*\*", "svctok-HINT"),
        (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME"),
        (r"(?m)^date: .*$", "date: DATE"),
        (r"127\.0\.0\.1:\d+", "ADDRESS"),
        (r"\b[0-9A-Za-z]{10}\b", "ID"),
        (r"sha256:[0-9a-f]{64}", "DIGEST"),
    ] {
        let pattern = Regex::new(pattern).expect("a pattern");
        text = pattern.replace_all(&text, kind).into_owned();
    }
    text
}

/// A shell in a directory of its own, in which a reader follows a page.
struct Session {
    home: PathBuf,
    shell: Child,
    stdin: ChildStdin,
    stdout: Receiver<String>,
    server: Option<Child>,
    /// The address on the page, and the one that replaces it.
    address: (&'static str, String),
}

impl Session {
    fn new(name: &str, on_page: &'static str, address: String) -> Result<Self, Failed> {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home)?;
        let mut shell = command_in(&home, "sh");
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = shell.stdin.take().expect("piped");
        let stdout = lines(shell.stdout.take().expect("piped"));
        let mut session = Self {
            home,
            shell,
            stdin,
            stdout,
            server: None,
            address: (on_page, address),
        };
        session.run("exec 2>&1");
        Ok(session)
    }

    fn run(&mut self, command: &str) -> String {
        let (on_page, address) = &self.address;
        let command = command.replace(on_page, address);
        if let Some(command) = command.strip_suffix('&') {
            self.serve(command);
            return String::new();
        }
        writeln!(self.stdin, "{command}\necho '{DONE}'").expect("the shell reads");
        let mut printed = String::new();
        loop {
            let line = self.stdout.recv_timeout(PROCESS_TIMEOUT);
            let line = line.unwrap_or_else(|error| panic!("{command}: {error}: {printed}"));
            if let Some(rest) = line.strip_suffix(DONE) {
                // Output whose last line has no end.
                if !rest.is_empty() {
                    printed.push_str(rest);
                    printed.push('\n');
                }
                return printed;
            }
            printed.push_str(&line);
            printed.push('\n');
        }
    }

    /// Starts a command of the background, and waits until it listens.
    fn serve(&mut self, command: &str) {
        let mut shell = command_in(&self.home, "sh");
        let server = shell
            .arg("-c")
            .arg(format!("exec {command}"))
            .env("SVCTOK_LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut server = server.expect("a shell");
        let log = lines(server.stderr.take().expect("piped"));
        self.server = Some(server);
        let mut logged = String::new();
        loop {
            let line = log.recv_timeout(PROCESS_TIMEOUT);
            let line = line.unwrap_or_else(|error| panic!("{command}: {error}: {logged}"));
            if let Some((_, address)) = line.split_once("listening on http://") {
                address.trim().clone_into(&mut self.address.1);
                return;
            }
            logged.push_str(&line);
            logged.push('\n');
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for child in self.server.iter_mut().chain([&mut self.shell]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Creates a command in a home of its own, with the `svctok` of this build in its path.
fn command_in(home: &Path, program: &str) -> Command {
    let ours = Path::new(env!("CARGO_BIN_EXE_svctok")).parent();
    let ours = ours.expect("a directory").to_owned();
    let others = env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(ours).chain(env::split_paths(&others));
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", env::join_paths(path).expect("no colon in them"))
        .env("HOME", home)
        .env("NO_PROXY", "*")
        .current_dir(home);
    command
}
