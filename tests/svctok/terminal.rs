//! The output of `svctok` on a terminal, which `script` of util-linux emulates.
//!
//! Without `script` the tests are reported as ignored; with
//! `SERVICE_TOKEN_REQUIRE_SERVICES=1` in the environment they fail instead.

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::{Arguments, Failed};
use test_support::optional_trial::optional_trial;

const SVCTOK: &str = env!("CARGO_BIN_EXE_svctok");

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let version = Command::new("script").arg("--version").output();
    let has_script = version.is_ok_and(|it| it.stdout.windows(10).any(|it| it == b"util-linux"));
    let missing = (!has_script).then(|| "script of util-linux is not installed".to_owned());
    let trial = |name: &str, test: fn() -> Result<(), Failed>| {
        optional_trial(missing.as_ref(), name.to_owned(), test)
    };
    let trials = vec![
        trial(
            "success_line_starts_with_a_mark",
            success_line_starts_with_a_mark,
        ),
        trial("hash_prompts_for_a_token", hash_prompts_for_a_token),
        trial("bulk_deletion_shows_progress", bulk_deletion_shows_progress),
        trial(
            "large_deletion_prints_the_count_instead_of_ids",
            large_deletion_prints_the_count_instead_of_ids,
        ),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs a command on a terminal, types `typed` and returns the output.
fn run_in_terminal(words: &str, variables: &[(&str, &str)], typed: &str) -> Result<String, Failed> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let store = format!("svctok-terminal-{}-{number}.db", std::process::id());
    let store = std::env::temp_dir().join(store);
    let mut script = Command::new("script");
    script
        .args(["--quiet", "--return", "--command"])
        .arg(format!("{SVCTOK} {words}"))
        .arg("/dev/null")
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR")
        .env("TERM", "xterm")
        .env("SVCTOK_STORE", format!("sqlite:{}", store.display()))
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = script.spawn()?;
    let mut stdin = child.stdin.take().ok_or("no stdin")?;
    std::io::Write::write_all(&mut stdin, typed.as_bytes())?;
    let output = child.wait_with_output()?;
    drop(stdin);
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", store.display()));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn success_line_starts_with_a_mark() -> Result<(), Failed> {
    let create = "create --name ci";
    for (variables, mark) in [
        (&[][..], "✅ Service token created: svctok-"),
        (
            &[("NO_COLOR", "1")],
            "[SUCCESS] Service token created: svctok-",
        ),
    ] {
        let text = run_in_terminal(create, variables, "")?;
        if !text.contains(mark) {
            return Err(format!("output lacks {mark}: {text}").into());
        }
    }
    Ok(())
}

fn hash_prompts_for_a_token() -> Result<(), Failed> {
    let text = run_in_terminal("hash", &[], "abc\n\u{4}")?;
    let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    if text.contains("Paste the token") && text.contains(digest) {
        Ok(())
    } else {
        Err(text.into())
    }
}

fn bulk_deletion_shows_progress() -> Result<(), Failed> {
    let bar = "0/1 tokens, ";
    let create = "create --name ci";
    for (flags, has_bar) in [("", true), (" -o json", false), (" 2>&1 | cat", false)] {
        let words = format!("{create} && {SVCTOK} delete --name ci --expect 1{flags}");
        let text = run_in_terminal(&words, &[], "")?;
        if !text.contains("Deleted 1 token.") || text.contains(bar) != has_bar {
            return Err(format!("{words}: {text}").into());
        }
    }
    Ok(())
}

fn large_deletion_prints_the_count_instead_of_ids() -> Result<(), Failed> {
    for (count, flags, lines) in [(20, "", 20), (21, "", 0), (21, " | cat", 21)] {
        let create = format!("{SVCTOK} create --name ci >/dev/null 2>&1");
        let delete = format!("{SVCTOK} delete --name ci --expect {count}{flags}");
        let words = format!("--version && for i in $(seq {count}); do {create}; done && {delete}");
        let text = run_in_terminal(&words, &[], "")?;
        let number = format!("Service tokens deleted: {count}");
        let is_brief = text.contains(&number) && !text.contains("Deleted ");
        let ids = text.matches("Service token deleted: ").count();
        if ids != lines || is_brief != (lines == 0) {
            return Err(format!("{words}: {text}").into());
        }
    }
    Ok(())
}
