//! Checks README.md and the guide.
//!
//! 1. A session is a `console` code block: each command follows `$ `, with its output below. The sessions
//!    of a page run in order, in one shell and one directory. Only the port differs from the page.
//! 2. Tokens, IDs, times, dates, addresses and digests are compared by form, all other output literally.
//! 3. The metrics and the `svctok serve` options that the guide lists are those of the source.
//! 4. Both tables of the guide list every page, in the same order. A page starts with one sentence, and
//!    its code runs.
//! 5. Links between documents, their anchors, and the paths in documents resolve.

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

/// The line that the shell prints after each command.
const DONE: &str = "-- done --";

/// The first example of the README. A test checks that the two differ only in whitespace.
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
    let missing = (!has_curl).then(|| "curl is not installed".to_owned());
    let readme = "readme_session_prints_the_documented_output".to_owned();
    let guide = "svctok_guide_sessions_print_the_documented_output".to_owned();
    let trials = vec![
        optional_trial(missing.as_ref(), readme, readme_session),
        optional_trial(missing.as_ref(), guide, svctok_sessions),
        Trial::test(
            "first_readme_example_matches_the_tested_code",
            first_example,
        ),
        Trial::test("readme_is_at_most_9_kb", readme_size),
        Trial::test("guide_lists_every_metric", metrics),
        Trial::test("guide_lists_every_option_of_serve", options),
        Trial::test("every_page_of_the_guide_is_listed_and_runs", pages),
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
        let runtime = Runtime::new().expect("the runtime starts");
        runtime.block_on(async {
            let app = app().await.expect("the example runs");
            let listener =
                tokio::net::TcpListener::from_std(listener).expect("the listener is valid");
            axum::serve(listener, app).await.expect("the server runs");
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
    let block = block.split("```").next().expect("the code block ends");
    let code = &block[block
        .find("async fn app")
        .expect("the example has a function")..];
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
        r#"(?:(?:\b(?:count|counter|gauge|histogram)!|\b\w+::new|=> )\(\s*|const (?:NAME|REQUESTS): &str = )"((?:svctok|service_token)_[a-z_]+)""#,
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

fn pages() -> Result<(), Failed> {
    let guide = read("src/guide/mod.rs")?;
    let in_tests = read("tests/shared/lib.rs")?;
    let mut pages = BTreeSet::new();
    for file in files(&root().join("src/guide"), "md")? {
        let page = file.file_stem().expect("a page has a name");
        let page = page.to_str().expect("a page has an ASCII name").to_owned();
        let text = fs::read_to_string(&file)?;
        let first = text.split("\n\n").next().unwrap_or_default();
        let is_sentence = first.ends_with('.') && !first.contains(". ") && !first.starts_with('#');
        assert!(is_sentence, "{page}: {first}");
        let runs = format!("include_str!(\"../../src/guide/{page}.md\")");
        let is_skipped = format!("#[cfg_attr(not(doctest), doc = include_str!(\"{page}.md\"))]");
        assert!(
            !guide.contains(&is_skipped) || in_tests.contains(&runs),
            "the code of {page} does not run"
        );
        assert!(
            guide.contains(&format!("include_str!(\"{page}.md\")")),
            "{page}"
        );
        pages.insert(page);
    }
    let rows = |pattern: &str, text: &str| -> Result<Vec<String>, Failed> {
        let row = Regex::new(pattern)?;
        let rows = row.captures_iter(text).map(|row| row[1].to_owned());
        Ok(rows.collect())
    };
    let in_readme = rows(
        r"(?m)^\| \[`(\w+)`\]\(src/guide/\w+\.md\) \|",
        &read(README)?,
    )?;
    let in_guide = rows(r"(?m)^//! \| \[`(\w+)`\] \|", &guide)?;
    assert_eq!(in_readme, in_guide);
    assert!(in_guide.len() > 10, "{in_guide:?}");
    assert_eq!(in_guide.len(), pages.len());
    assert_eq!(in_guide.into_iter().collect::<BTreeSet<_>>(), pages);
    Ok(())
}

fn links() -> Result<(), Failed> {
    let link = Regex::new(r"\]\(([^)\s]+)\)")?;
    let mut found = 0;
    for document in DOCUMENTS {
        let text = read(document)?;
        let folder = root().join(document);
        let folder = folder.parent().expect("the document is in a folder");
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
    let text = text
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    text.map(|c| if c == ' ' { '-' } else { c }).collect()
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

/// Replaces each value that differs between runs with the name of its kind.
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
        let pattern = Regex::new(pattern).expect("the pattern is valid");
        text = pattern.replace_all(&text, kind).into_owned();
    }
    text
}

/// A shell in its own directory that runs the commands of a page.
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
        writeln!(self.stdin, "{command}\necho '{DONE}'").expect("the shell reads its stdin");
        let mut printed = String::new();
        loop {
            let line = self.stdout.recv_timeout(PROCESS_TIMEOUT);
            let line = line.unwrap_or_else(|error| panic!("{command}: {error}: {printed}"));
            if let Some(rest) = line.strip_suffix(DONE) {
                // The output does not end with a newline.
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

    /// Starts a background command and waits until it listens.
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
        let mut server = server.expect("the shell starts");
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

/// Creates a command with its own home directory and the `svctok` of this build in `PATH`.
fn command_in(home: &Path, program: &str) -> Command {
    let build = Path::new(env!("CARGO_BIN_EXE_svctok")).parent();
    let build = build.expect("the binary is in a directory").to_owned();
    let inherited = env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(build).chain(env::split_paths(&inherited));
    let mut command = Command::new(program);
    command
        .env_clear()
        .env(
            "PATH",
            env::join_paths(path).expect("no path contains a colon"),
        )
        .env("HOME", home)
        .env("NO_PROXY", "*")
        .current_dir(home);
    command
}
