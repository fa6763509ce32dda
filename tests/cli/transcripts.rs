//! The documents in `transcripts/`, run command by command, each in a directory of its own.
//!
//! `TRYCMD=dump` writes what is answered into `dump/`.

use std::fs;

use trycmd::TestCases;
use trycmd::schema::Bin;

use crate::desk::{Desk, SVCTOK, TOKEN, make_store};
use crate::site::Site;

/// Runs a document whose store has a token of this name and these roles.
fn runs(name: &str, document: &str, is_terminal: bool) {
    let desk = Desk::bare();
    let site = Site::start();
    let token = site.create(&["service-tokens:admin"], &[]);
    let document = document.replace(
        "--name <name> --service-token <TOKEN> --url https://<tenant>.app.stackstate.io",
        &format!(
            "--name my-context --service-token {token} --url {}",
            site.url()
        ),
    );
    let path = desk.write(&format!("{name}.md"), &document);
    let roles = ["stackstate-power-user"];
    let folder = format!("{name}.in");
    fs::create_dir_all(desk.file(&folder)).unwrap();
    make_store(
        &desk.file(&folder).join("tokens.db"),
        "my-service-token",
        &roles,
    );
    let file = format!(
        "[[tokens]]\nname = \"ci\"\nid = \"7Hq2mX9bTe\"\nroles = [\"a\", \"b\"]\n\
         digest = \"{}\"\nexpires_at = \"2099-12-31\"\n",
        tower_service_token::digest::TokenDigest::of(TOKEN)
    );
    desk.write(&format!("{folder}/tokens.toml"), &file);
    desk.write(&format!("{folder}/token"), TOKEN);

    let cases = TestCases::new();
    cases.register_bin("svctok", Bin::Path(SVCTOK.into()));
    for (variable, value) in [
        ("HOME", desk.path.to_str().unwrap()),
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
fn what_the_documents_of_the_first_edition_show() {
    let document = include_str!("transcripts/stackstate_5_0.md");
    runs("stackstate_5_0", document, true);
}

#[test]
fn what_the_documents_of_the_second_edition_show() {
    let document = include_str!("transcripts/stackstate_k8s.md");
    runs("stackstate_k8s", document, true);
}

#[test]
fn the_life_of_a_token_in_a_store() {
    runs("life", include_str!("transcripts/life.md"), false);
}

#[test]
fn a_file_of_digests_is_looked_at_and_changed() {
    runs("file", include_str!("transcripts/file.md"), false);
}

#[test]
fn safeguards_of_changes_and_deletions() {
    runs(
        "safeguards",
        include_str!("transcripts/safeguards.md"),
        false,
    );
}

#[test]
fn what_needs_no_store_and_no_server() {
    runs("alone", include_str!("transcripts/alone.md"), false);
}

#[test]
fn mistakes_and_what_to_do_about_them() {
    runs("mistakes", include_str!("transcripts/mistakes.md"), false);
}

#[test]
fn contexts_are_saved_and_used() {
    runs("contexts", include_str!("transcripts/contexts.md"), false);
}
