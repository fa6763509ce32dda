//! `--output-file` with paths that name stdout.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use crate::sandbox::{SVCTOK, Sandbox, id_of};

#[test]
fn dash_writes_to_stdout() {
    let sandbox = Sandbox::new();
    let output = sandbox.run("create --name a --output-file -");
    let stdout = output.succeeded();
    let token = stdout.strip_prefix("[SUCCESS] Service token created: ");
    sandbox
        .run_with("verify", token.unwrap_or_else(|| panic!("{stdout}")))
        .succeeded();
    let output = sandbox.run("create --name b -o token --output-file - --force");
    let token = output.succeeded();
    sandbox.run_with("verify", &token).succeeded();
    let rotate = format!("rotate {} -o token --output-file -", id_of(&token));
    let rotated = sandbox.run(&rotate).succeeded();
    sandbox.run_with("verify", &rotated).succeeded();
    assert!(!sandbox.file("-").exists());
}

/// Runs a command with stdout appended to a file that already has a line. Returns the file's text.
#[cfg(target_os = "linux")]
fn run_into_file(sandbox: &Sandbox, words: &str) -> String {
    let path = sandbox.write("stdout", "before\n");
    let file = File::options().append(true).open(&path).unwrap();
    let output = Command::new(SVCTOK)
        .args(words.split_whitespace())
        .env("SVCTOK_STORE", "sqlite:tokens.db")
        .current_dir(&sandbox.path)
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{words}: {stderr}");
    fs::read_to_string(path).unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn paths_that_name_stdout_append_to_its_file() {
    let sandbox = Sandbox::new();
    for path in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        for flags in ["", "--force"] {
            let words = format!("create --name a -o token --output-file {path} {flags}");
            let text = run_into_file(&sandbox, &words);
            let token = text
                .strip_prefix("before\n")
                .unwrap_or_else(|| panic!("{words}: {text}"));
            assert!(
                token.starts_with("svctok-") && token.lines().count() == 1,
                "{words}: {text}"
            );
            sandbox.run_with("verify", token).succeeded();
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn paths_that_name_stderr_are_rejected() {
    let sandbox = Sandbox::new();
    sandbox.create("--name first");
    let path = sandbox.write("log", "before\n");
    for name in ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"] {
        let log = File::options().append(true).open(&path).unwrap();
        let status = Command::new(SVCTOK)
            .args(["create", "--name", "a", "--force", "--output-file", name])
            .env("SVCTOK_STORE", "sqlite:tokens.db")
            .current_dir(&sandbox.path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .status()
            .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(status.code(), Some(1), "{name}: {text}");
        assert!(text.starts_with("before\n"), "{name}: {text}");
        assert!(text.contains("is not a regular file"), "{name}: {text}");
        assert!(!text.contains("svctok-"), "{name}: {text}");
    }
    // No token was created.
    assert_eq!(sandbox.run("list").succeeded().lines().count(), 2);
}
