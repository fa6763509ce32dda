//! Runs the commands of the documents in `transcripts/`, each document in its own directory.
//!
//! `TRYCMD=dump` writes the actual output into `dump/`.

use std::fs;

use trycmd::TestCases;
use trycmd::schema::Bin;

use crate::sandbox::{SVCTOK, Sandbox, TOKEN, make_store};
use crate::test_server::TestServer;

/// Runs the commands of a document, with a store that has one token.
fn run_transcript(name: &str, document: &str, is_terminal: bool) {
    let sandbox = Sandbox::without_store();
    let test_server = TestServer::start();
    let token = test_server.create(&["service-tokens:admin"], &[]);
    let document = document.replace(
        "--name <name> --service-token <TOKEN> --url https://<tenant>.app.stackstate.io",
        &format!(
            "--name my-context --service-token {token} --url {}",
            test_server.url()
        ),
    );
    let path = sandbox.write(&format!("{name}.md"), &document);
    let roles = ["stackstate-power-user"];
    let folder = format!("{name}.in");
    fs::create_dir_all(sandbox.file(&folder)).unwrap();
    make_store(
        &sandbox.file(&folder).join("tokens.db"),
        "my-service-token",
        &roles,
    );
    let file = format!(
        "[[tokens]]\nname = \"ci\"\nid = \"7Hq2mX9bTe\"\nroles = [\"a\", \"b\"]\n\
         digest = \"{}\"\nexpires_at = \"2099-12-31\"\n",
        tower_service_token::digest::TokenDigest::of(TOKEN)
    );
    sandbox.write(&format!("{folder}/tokens.toml"), &file);
    sandbox.write(&format!("{folder}/token"), TOKEN);

    let cases = TestCases::new();
    cases.register_bin("svctok", Bin::Path(SVCTOK.into()));
    for (variable, value) in [
        ("HOME", sandbox.path.to_str().unwrap()),
        ("USER", "tester"),
        ("SVCTOK_CONFIG", "config.toml"),
        (
            "SVCTOK_STORE",
            if name == "contexts" {
                ""
            } else {
                "sqlite:tokens.db"
            },
        ),
        ("SVCTOK_TOKEN", ""),
        ("SVCTOK_URL", ""),
        ("SVCTOK_CONTEXT", ""),
        ("NO_COLOR", ""),
        ("CLICOLOR", ""),
        ("CLICOLOR_FORCE", if is_terminal { "1" } else { "" }),
        ("COLUMNS", "100"),
    ] {
        cases.env(variable, value);
    }
    cases.case(path);
    cases.run();
}

#[test]
fn stackstate_5_0_transcript() {
    let document = include_str!("transcripts/stackstate_5_0.md");
    run_transcript("stackstate_5_0", document, true);
}

#[test]
fn stackstate_k8s_transcript() {
    let document = include_str!("transcripts/stackstate_k8s.md");
    run_transcript("stackstate_k8s", document, true);
}

#[test]
fn token_lifecycle_transcript() {
    run_transcript("lifecycle", include_str!("transcripts/lifecycle.md"), false);
}

#[test]
fn token_file_transcript() {
    run_transcript("file", include_str!("transcripts/file.md"), false);
}

#[test]
fn safeguards_transcript() {
    run_transcript(
        "safeguards",
        include_str!("transcripts/safeguards.md"),
        false,
    );
}

#[test]
fn offline_commands_transcript() {
    run_transcript("offline", include_str!("transcripts/offline.md"), false);
}

#[test]
fn mistakes_transcript() {
    run_transcript("mistakes", include_str!("transcripts/mistakes.md"), false);
}

#[test]
fn contexts_transcript() {
    run_transcript("contexts", include_str!("transcripts/contexts.md"), false);
}
