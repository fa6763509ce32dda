//! Contexts, and what outranks what.

use std::fs;

use serde_json::json;

use crate::desk::{Desk, TOKEN, id_of};
use crate::site::Site;

const CONFIG: &str = ".config/svctok/config.toml";

/// A desk with a context for the site, and the token in it.
fn desk_with_context(site: &Site) -> (Desk, String) {
    let token = site.create(&["service-tokens:admin"], &[]);
    let desk = Desk::bare();
    let save = format!(
        "context --name prod --url {} --service-token-stdin",
        site.url()
    );
    let said = desk.run_with(&save, &token).succeeded();
    assert_eq!(said, "[SUCCESS] Context saved: prod\n");
    (desk, token)
}

#[test]
fn a_context_is_checked_saved_and_used() {
    let site = Site::start();
    let (desk, token) = desk_with_context(&site);
    assert!(desk.run("list").succeeded().contains(&id_of(&token)));
    let stdout = desk.run("context validate").succeeded();
    assert_eq!(stdout, "[SUCCESS] Context is good: prod\n");

    let save = format!(
        "context save --name other --url {} --service-token {TOKEN}",
        site.url()
    );
    let stderr = desk.run(&save).failed(4);
    assert!(stderr.contains("refuses the token"), "{stderr}");
    desk.run("context show other").failed(2);
    desk.run(&format!("{save} --skip-validate")).succeeded();
    desk.run("context validate").failed(4);
    desk.run("list").failed(4);
    desk.run("context set prod").succeeded();
    desk.run("list").succeeded();
    desk.run("list --context other").failed(4);
    desk.run("context delete --name prod").succeeded();
    assert!(desk.run("list").failed(2).contains("--url"));
}

#[test]
fn a_context_is_shown_without_its_token() {
    let site = Site::start();
    let (desk, token) = desk_with_context(&site);
    let hint = format!("svctok-{}_***", id_of(&token));
    for format in ["table", "json", "yaml"] {
        let shown = desk.run(&format!("context show -o {format}")).succeeded();
        let listed = desk.run(&format!("context list -o {format}")).succeeded();
        assert!(shown.contains(&hint), "{shown}");
        assert!(!shown.contains(&token) && !listed.contains(&token));
    }
    let expected = json!({
        "name": "prod",
        "url": site.url(),
        "store": null,
        "token_hint": hint,
        "current": true,
    });
    assert_eq!(desk.json("context show prod"), expected);
    assert_eq!(desk.json("context list"), json!({ "contexts": [expected] }));

    desk.run("context save --name db --store postgres://u:hush@db/t --skip-validate")
        .succeeded();
    for words in ["context show", "context list", "context list -o json"] {
        let stdout = desk.run(words).succeeded();
        assert!(stdout.contains("postgres://db/t"), "{stdout}");
        assert!(!stdout.contains("hush"), "{stdout}");
    }
}

#[cfg(unix)]
#[test]
fn the_file_is_for_its_owner_alone() {
    use crate::desk::{mode, set_mode};

    let site = Site::start();
    let (desk, token) = desk_with_context(&site);
    let file = desk.file(CONFIG);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert!(fs::read_to_string(&file).unwrap().contains(&token));
    for insecure in [0o640, 0o604, 0o602] {
        set_mode(&file, insecure);
        let stderr = desk.run("list").failed(2);
        let remedy = format!("`chmod 600 {}`", file.display());
        assert!(stderr.contains(&remedy), "{stderr}");
    }
    set_mode(&file, 0o600);
    desk.run("list").succeeded();
    let names = fs::read_dir(file.parent().unwrap()).unwrap();
    assert_eq!(names.count(), 1, "a draft is left");
}

#[test]
fn flags_outrank_the_environment_and_that_outranks_the_file() {
    let site = Site::start();
    let other = Site::start();
    let others = other.create(&["service-tokens:admin"], &[]);
    let (desk, token) = desk_with_context(&site);
    let asks = |desk: &Desk, words: &str| {
        let listed = desk.run(&format!("{words} list")).succeeded();
        let is_here = listed.contains(&id_of(&token));
        assert_ne!(is_here, listed.contains(&id_of(&others)), "{listed}");
        if is_here { "site" } else { "other" }
    };
    assert_eq!(asks(&desk, ""), "site");
    let desk = desk
        .with("SVCTOK_URL", other.url())
        .with("SVCTOK_TOKEN", &others);
    assert_eq!(asks(&desk, ""), "other");
    let flags = format!("--url {} --service-token {token}", site.url());
    assert_eq!(asks(&desk, &flags), "site");
    let desk = desk.with("SVCTOK_TOKEN", TOKEN);
    assert_eq!(asks(&desk, &flags), "site");
    // The token of the environment outranks the one of the file.
    desk.run("--context prod list").failed(4);
    let desk = desk.without("SVCTOK_TOKEN");
    assert_eq!(asks(&desk, "--context prod"), "site");
    let stderr = desk.run("--context prod --store sqlite:x list").failed(2);
    assert!(stderr.contains("only one can be meant"), "{stderr}");
}

#[test]
fn a_saved_token_goes_to_its_own_server_and_to_no_other() {
    let site = Site::start();
    let (desk, _) = desk_with_context(&site);
    let other = Site::start();
    let stderr = desk.run(&format!("list --url {}", other.url())).failed(4);
    assert!(stderr.contains("there is no token for"), "{stderr}");
    desk.with("SVCTOK_URL", other.url()).run("list").failed(4);
}

#[test]
fn the_file_stands_where_the_environment_says() {
    let site = Site::start();
    let token = site.create(&[], &[]);
    let save = format!(
        "context --name a --url {} --service-token-stdin",
        site.url()
    );
    for (variable, value, file) in [
        ("SVCTOK_CONFIG", "mine.toml", "mine.toml"),
        ("XDG_CONFIG_HOME", "DESK/xdg", "xdg/svctok/config.toml"),
        ("XDG_CONFIG_HOME", "", CONFIG),
        ("XDG_CONFIG_HOME", "not/absolute", CONFIG),
    ] {
        let desk = Desk::bare();
        let value = value.replace("DESK", desk.path.to_str().unwrap());
        let desk = desk.with(variable, &value);
        desk.run_with(&save, &token).succeeded();
        assert!(desk.file(file).exists(), "{variable}={value}");
    }
}

#[cfg(unix)]
#[test]
fn a_device_in_place_of_the_file_holds_no_contexts() {
    let desk = Desk::bare().with("SVCTOK_CONFIG", "/dev/null");
    let stdout = desk.run("context list -o json").succeeded();
    assert_eq!(stdout, "{\n  \"contexts\": []\n}\n");
}

#[test]
fn without_a_home_all_that_needs_no_context_works() {
    let desk = Desk::new().without("HOME").without("USER");
    desk.create("--name a");
    assert!(desk.run("list").succeeded().contains(" | a "));
    desk.run_with("hash", "abc").succeeded();
    desk.run("--help").succeeded();
}

#[test]
fn a_broken_file_is_told_by_its_line_and_not_quoted() {
    let desk = Desk::bare();
    let token = format!("current = \"a\"\n[contexts.a]\nservice_token = {TOKEN}\n");
    for (text, line) in [
        (token.as_str(), 3),
        ("current = 1\n", 1),
        ("\ncolour = \"red\"\n", 2),
        ("[contexts.a]\nstore = \"postgress://u:hush@db/t\"\n", 2),
    ] {
        desk.write(CONFIG, text);
        let stderr = desk.run("list").failed(2);
        assert!(
            stderr.contains(&format!("in line {line}\n")),
            "{text}: {stderr}"
        );
        assert!(
            !stderr.contains("hush") && !stderr.contains("svctok-"),
            "{stderr}"
        );
    }
    desk.write(
        CONFIG,
        "[contexts.a]\nurl = \"http://127.0.0.1:1\"\nstore = \"sqlite:x\"\n",
    );
    let stderr = desk.run("list --context a").failed(2);
    assert!(stderr.contains("a url or a store"), "{stderr}");
}

#[test]
fn a_store_in_a_context_is_the_same_from_every_directory() {
    let desk = Desk::new();
    desk.create("--name ci");
    let desk = desk.without("SVCTOK_STORE");
    desk.run("context save --name local --store sqlite:tokens.db")
        .succeeded();
    fs::create_dir(desk.file("elsewhere")).unwrap();
    let command = desk.command("list").current_dir(desk.file("elsewhere"));
    let listed = crate::desk::Ran::of(command).succeeded();
    assert!(listed.contains(" | ci "), "{listed}");
}

#[test]
fn a_store_is_a_file_even_if_sqlite_calls_its_name_something_else() {
    for name in [":memory:", "file:tokens.db?mode=memory"] {
        let desk = Desk::bare().with("SVCTOK_STORE", &format!("sqlite:{name}"));
        let id = id_of(&desk.create("--name kept"));
        assert!(desk.run("list").succeeded().contains(&id), "{name}");
        assert!(desk.file(name).is_file(), "{name}");
    }
}
