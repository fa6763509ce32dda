//! Pipes, colours, shell completions and manual pages.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use regex::Regex;
use serde::Deserialize;
use tower_service_token::token::TokenFormat;

use crate::sandbox::{SVCTOK, Sandbox, TOKEN};

/// Runs a command whose stdout is closed after the first byte. Returns its exit code and stderr.
fn run_with_closed_stdout(sandbox: &Sandbox, words: &str) -> (Option<i32>, String) {
    let mut child = Command::new(SVCTOK)
        .args(words.split_whitespace())
        .env("SVCTOK_STORE", "sqlite:tokens.db")
        .current_dir(&sandbox.path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), stderr)
}

#[test]
fn closed_pipe_is_not_an_error() {
    let sandbox = Sandbox::new();
    let description = "d".repeat(2000);
    for number in 0..40 {
        sandbox.create(&format!("--name {number} --description {description}"));
    }
    // Exceeds the capacity of a pipe, so that a later write fails.
    let listed = sandbox.run("list -o json").succeeded();
    assert!(listed.len() > 66_000, "{}", listed.len());
    for words in ["list -o json", "list -o yaml", "completions bash", "--help"] {
        assert_eq!(
            run_with_closed_stdout(&sandbox, words),
            (Some(0), String::new()),
            "{words}"
        );
    }
}

#[test]
fn output_is_plain_unless_color_is_forced() {
    let sandbox = Sandbox::new();
    let create = "create --name a";
    assert!(sandbox.run(create).succeeded().starts_with("[SUCCESS] "));
    let sandbox = sandbox.with("CLICOLOR_FORCE", "1");
    assert!(sandbox.run(create).succeeded().starts_with("✅ "));
    let sandbox = sandbox.with("NO_COLOR", "1");
    assert!(sandbox.run(create).succeeded().starts_with("[SUCCESS] "));
    for words in ["--help", "create --help", "nonsense", "list"] {
        let output = sandbox.run(words);
        assert!(!output.stdout.contains('\u{1b}') && !output.stderr.contains('\u{1b}'));
    }
}

#[test]
fn generates_completions_and_man_pages() {
    let sandbox = Sandbox::without_store();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = sandbox.run(&format!("completions {shell}")).succeeded();
        for word in ["service-token", "scanner-rules", "output-file"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    sandbox.run("completions tcsh").failed(2);
    let page = sandbox.run("man").succeeded();
    assert!(page.contains(".TH svctok 1"), "{page}");
    for text in ["SVCTOK_CONFIG", "the credential was not accepted"] {
        assert!(page.contains(text), "{page}");
    }
    sandbox.run("man --dir .").succeeded();
    let page = fs::read_to_string(sandbox.file("svctok-create.1")).unwrap();
    assert!(page.contains("\\-\\-expires\\-in"), "{page}");
    sandbox.run("man --dir nowhere").failed(1);
}

#[derive(Deserialize)]
struct Gitleaks {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    id: String,
    regex: String,
    keywords: Vec<String>,
}

#[test]
fn scanner_rules_match_only_their_prefix() {
    let sandbox = Sandbox::without_store();
    for (prefix, other) in [("svctok-", "acme_"), ("acme_", "svctok-")] {
        let rules = |scanner: &str| {
            let words = format!("scanner-rules --format {scanner} --prefix {prefix}");
            sandbox.run(&words).succeeded()
        };
        let gitleaks: Gitleaks = toml::from_str(&rules("gitleaks")).unwrap();
        let [rule] = gitleaks.rules.try_into().ok().unwrap();
        let trufflehog = rules("trufflehog");
        let trufflehog = trufflehog
            .lines()
            .find_map(|it| it.strip_prefix("      token: '"));
        let trufflehog = trufflehog.unwrap().strip_suffix('\'').unwrap();
        let github = rules("github");
        let github = github
            .lines()
            .find_map(|it| it.strip_prefix("Secret format: "));
        assert_eq!(
            rule.id,
            format!("{}-service-token", &prefix[..prefix.len() - 1])
        );
        assert_eq!(rule.keywords, [prefix]);
        for regex in [rule.regex.as_str(), trufflehog, github.unwrap()] {
            let regex = Regex::new(regex).unwrap();
            let minted = |prefix| TokenFormat::new(prefix).unwrap().mint().unwrap();
            let (token, foreign) = (minted(prefix), minted(other));
            let text = format!("a = \"{}\";", token.expose_secret());
            let found = regex.find(&text).unwrap().as_str();
            assert_eq!(found, token.expose_secret());
            assert!(!regex.is_match(foreign.expose_secret()));
            assert!(!regex.is_match(&TOKEN[..40]));
        }
    }
}
