//! Notes on stderr, which output formats for scripts and `--quiet` omit.

use crate::sandbox::{Sandbox, id_of};

const NOTE: &str = "The secret is only displayed once. It is not possible to see it again.\n";

/// Removes the line that says when a change reaches every node.
fn without_propagation(stderr: &str) -> String {
    let lines = stderr
        .lines()
        .filter(|it| !it.starts_with("The change reaches every node"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn script_formats_print_no_note_about_the_secret() {
    let sandbox = Sandbox::new();
    let id = id_of(&sandbox.create("--name x"));
    for command in ["create --name a", &format!("rotate {id}")] {
        for (flags, note) in [
            ("", NOTE),
            ("-o table", NOTE),
            ("-o json", ""),
            ("-o yaml", ""),
            ("-o token", ""),
            ("--quiet", ""),
            ("-q -o json", ""),
        ] {
            let output = sandbox.run(&format!("{command} {flags}"));
            let stderr = without_propagation(&output.stderr);
            assert_eq!(stderr, note, "{command} {flags}");
            output.succeeded();
        }
        for (flags, note) in [
            ("", "The secret is in the file."),
            ("-o json", ""),
            ("-q", ""),
        ] {
            let words = format!("{command} --output-file secret --force {flags}");
            let output = sandbox.run(&words);
            let stderr = without_propagation(&output.stderr);
            assert!(stderr.starts_with(note), "{words}: {output:?}");
            assert_eq!(stderr.is_empty(), note.is_empty(), "{words}: {output:?}");
            output.succeeded();
        }
    }
}

#[test]
fn quiet_hides_notes_but_not_results_errors_or_warnings() {
    let sandbox = Sandbox::new();
    for quiet in ["--quiet", "-q"] {
        let created = sandbox.run(&format!("{quiet} create --name a --label run=7"));
        assert_eq!(created.stderr, "");
        assert!(created.succeeded().starts_with("[SUCCESS] "));
        let preview = sandbox.run(&format!("delete --label run=7 --dry-run {quiet}"));
        assert_eq!(preview.stderr, "");
        assert_eq!(preview.succeeded().lines().count(), 1);
        let deleted = sandbox.run(&format!("delete {quiet} --label run=7 --expect 1"));
        assert_eq!(deleted.stderr, "");
        deleted.succeeded();
        let stderr = sandbox.run(&format!("get 0000000000 {quiet}")).failed(1);
        assert!(stderr.starts_with("error: "), "{stderr}");
        let stderr = sandbox.run(&format!("list --nonsense {quiet}")).failed(2);
        assert!(stderr.starts_with("error: "), "{stderr}");
    }
    let token = sandbox.create("--name b");
    let rotate = format!("rotate {} --grace 1h -q", id_of(&token));
    sandbox.run(&rotate).succeeded();
    let verified = sandbox.run_with("verify -q", &token);
    assert!(verified.stderr.contains("previous secret"), "{verified:?}");
    verified.succeeded();
}

#[test]
fn help_and_completions_list_quiet() {
    let sandbox = Sandbox::without_store();
    for words in [
        "--help",
        "create --help",
        "serve --help",
        "completions bash",
    ] {
        let stdout = sandbox.run(words).succeeded();
        assert!(stdout.contains("--quiet"), "{words}");
    }
}
