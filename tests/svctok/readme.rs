//! The shell sessions in README.md, run to the letter.
//!
//! 1. A session is a block of `console`: after `$ ` stands a command, below it what it prints.
//! 2. All sessions run in one shell and one directory, in their order, as a reader would run them.
//!    Only the server's port is another, as 8080 may be taken.
//! 3. Tokens, ids, times and versions are compared by their form, everything else to the letter.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::mpsc::Receiver;

use libtest_mimic::{Arguments, Failed};
use regex::Regex;
use test_support::optional_trial::optional_trial;
use test_support::process::{PROCESS_TIMEOUT, lines};

/// Said by the shell when a command is over.
const DONE: &str = "-- done --";
/// Where the server of the README listens.
const ADDRESS: &str = "127.0.0.1:8080";

/// A command of a session, and what it prints.
struct Step {
    line: usize,
    command: String,
    output: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let has_curl = Command::new("curl")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let missing = (!has_curl).then(|| "there is no curl".to_owned());
    let name = "the_sessions_in_the_readme_work_as_printed".to_owned();
    let trial = optional_trial(missing.as_ref(), name, readme_sessions_print_what_they_show);
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

fn readme_sessions_print_what_they_show() -> Result<(), Failed> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"))?;
    let steps = steps(&readme);
    assert!(steps.len() > 10, "the sessions are found: {}", steps.len());
    let mut reader = Session::new()?;
    for step in steps {
        let printed = reader.run(&step.command);
        assert_eq!(
            normalize(&printed),
            normalize(&step.output),
            "README.md:{}: $ {}",
            step.line,
            step.command
        );
    }
    Ok(())
}

fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_within = false;
    for (number, line) in readme.lines().enumerate() {
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
                (None, None) => panic!("README.md:{}: no command before it", number + 1),
            },
            (false, _) => {}
        }
    }
    steps
}

/// A text with what differs from run to run replaced by what it is.
fn normalize(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, kind) in [
        (
            r"\bsvctok-[0-9A-Za-z]{10}_[0-9A-Za-z]{30}\b",
            "svctok-TOKEN",
        ),
        (r"\bsvctok-[0-9A-Za-z]{10}_\*\*\*", "svctok-HINT"),
        (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME"),
        (r"\b[0-9A-Za-z]{10}\b", "ID"),
        (r"sha256:[0-9a-f]{64}", "DIGEST"),
    ] {
        let pattern = Regex::new(pattern).expect("a pattern");
        text = pattern.replace_all(&text, kind).into_owned();
    }
    text
}

/// Someone who follows the README in a shell.
struct Session {
    home: PathBuf,
    shell: Child,
    stdin: ChildStdin,
    stdout_lines: Receiver<String>,
    server: Option<Child>,
    address: String,
}

impl Session {
    fn new() -> Result<Self, Failed> {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme_commands");
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home)?;
        let mut shell = command_in(&home, "sh");
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = shell.stdin.take().expect("piped");
        let stdout_lines = lines(shell.stdout.take().expect("piped"));
        let mut reader = Self {
            home,
            shell,
            stdin,
            stdout_lines,
            server: None,
            address: ADDRESS.to_owned(),
        };
        reader.run("exec 2>&1");
        Ok(reader)
    }

    fn run(&mut self, command: &str) -> String {
        let command = command.replace(ADDRESS, &self.address);
        if let Some(command) = command.strip_suffix('&') {
            self.serve(command);
            return String::new();
        }
        writeln!(self.stdin, "{command}\necho '{DONE}'").expect("the shell reads");
        let mut printed = String::new();
        loop {
            let line = self.stdout_lines.recv_timeout(PROCESS_TIMEOUT);
            let line = line.unwrap_or_else(|error| panic!("{command}: {error}: {printed}"));
            if let Some(rest) = line.strip_suffix(DONE) {
                // What does not end its last line.
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

    /// Starts what goes on in the background, and waits until it listens.
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
        let said = lines(server.stderr.take().expect("piped"));
        self.server = Some(server);
        let mut heard = String::new();
        loop {
            let line = said.recv_timeout(PROCESS_TIMEOUT);
            let line = line.unwrap_or_else(|error| panic!("{command}: {error}: {heard}"));
            if let Some((_, address)) = line.split_once("listening on http://") {
                address.trim().clone_into(&mut self.address);
                return;
            }
            heard.push_str(&line);
            heard.push('\n');
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

/// A program in a home of its own, with the `svctok` at hand that was just built.
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
