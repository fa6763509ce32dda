//! Contexts, and the precedence of flags, environment variables and the contexts file.

use std::fs;

use serde_json::json;

use crate::sandbox::{Sandbox, TOKEN, id_of};
use crate::test_server::TestServer;

const CONFIG: &str = ".config/svctok/config.toml";

/// Returns a sandbox with a context for the server, and the token of the context.
fn sandbox_with_context(test_server: &TestServer) -> (Sandbox, String) {
    let token = test_server.create(&["service-tokens:admin"], &[]);
    let sandbox = Sandbox::without_store();
    let save = format!(
        "context --name prod --url {} --service-token-stdin",
        test_server.url()
    );
    let stdout = sandbox.run_with(&save, &token).succeeded();
    assert_eq!(stdout, "[SUCCESS] Context saved: prod\n");
    (sandbox, token)
}

#[test]
fn context_is_validated_saved_and_used() {
    let test_server = TestServer::start();
    let (sandbox, token) = sandbox_with_context(&test_server);
    assert!(sandbox.run("list").succeeded().contains(&id_of(&token)));
    let stdout = sandbox.run("context validate").succeeded();
    assert_eq!(stdout, "[SUCCESS] Context is valid: prod\n");

    let save = format!(
        "context save --name other --url {} --service-token {TOKEN}",
        test_server.url()
    );
    let stderr = sandbox.run(&save).failed(4);
    assert!(stderr.contains("rejected the token"), "{stderr}");
    sandbox.run("context show other").failed(2);
    sandbox.run(&format!("{save} --skip-validate")).succeeded();
    sandbox.run("context validate").failed(4);
    sandbox.run("list").failed(4);
    sandbox.run("context set prod").succeeded();
    sandbox.run("list").succeeded();
    sandbox.run("list --context other").failed(4);
    sandbox.run("context delete --name prod").succeeded();
    assert!(sandbox.run("list").failed(2).contains("--url"));
}

#[test]
fn context_show_omits_the_token() {
    let test_server = TestServer::start();
    let (sandbox, token) = sandbox_with_context(&test_server);
    let hint = format!("svctok-{}_***", id_of(&token));
    for format in ["table", "json", "yaml"] {
        let shown = sandbox
            .run(&format!("context show -o {format}"))
            .succeeded();
        let listed = sandbox
            .run(&format!("context list -o {format}"))
            .succeeded();
        assert!(shown.contains(&hint), "{shown}");
        assert!(!shown.contains(&token) && !listed.contains(&token));
    }
    let expected = json!({
        "name": "prod",
        "url": test_server.url(),
        "store": null,
        "token_hint": hint,
        "current": true,
    });
    assert_eq!(sandbox.json("context show prod"), expected);
    assert_eq!(
        sandbox.json("context list"),
        json!({ "contexts": [expected] })
    );

    sandbox
        .run("context save --name db --store postgres://u:hush@db/t --skip-validate")
        .succeeded();
    for words in ["context show", "context list", "context list -o json"] {
        let stdout = sandbox.run(words).succeeded();
        assert!(stdout.contains("postgres://db/t"), "{stdout}");
        assert!(!stdout.contains("hush"), "{stdout}");
    }
}

#[cfg(unix)]
#[test]
fn contexts_file_is_private() {
    use crate::sandbox::{mode, set_mode};

    let test_server = TestServer::start();
    let (sandbox, token) = sandbox_with_context(&test_server);
    let file = sandbox.file(CONFIG);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert!(fs::read_to_string(&file).unwrap().contains(&token));
    for insecure in [0o640, 0o604, 0o602] {
        set_mode(&file, insecure);
        let stderr = sandbox.run("list").failed(2);
        let command = format!("`chmod 600 {}`", file.display());
        assert!(stderr.contains(&command), "{stderr}");
    }
    set_mode(&file, 0o600);
    sandbox.run("list").succeeded();
    let names = fs::read_dir(file.parent().unwrap()).unwrap();
    assert_eq!(names.count(), 1, "a temporary file remains");
}

#[test]
fn flags_take_precedence_over_environment_over_file() {
    let test_server = TestServer::start();
    let other = TestServer::start();
    let other_token = other.create(&["service-tokens:admin"], &[]);
    let (sandbox, token) = sandbox_with_context(&test_server);
    let target = |sandbox: &Sandbox, words: &str| {
        let listed = sandbox.run(&format!("{words} list")).succeeded();
        let is_ours = listed.contains(&id_of(&token));
        assert_ne!(is_ours, listed.contains(&id_of(&other_token)), "{listed}");
        if is_ours { "ours" } else { "other" }
    };
    assert_eq!(target(&sandbox, ""), "ours");
    let sandbox = sandbox
        .with("SVCTOK_URL", other.url())
        .with("SVCTOK_TOKEN", &other_token);
    assert_eq!(target(&sandbox, ""), "other");
    let flags = format!("--url {} --service-token {token}", test_server.url());
    assert_eq!(target(&sandbox, &flags), "ours");
    let sandbox = sandbox.with("SVCTOK_TOKEN", TOKEN);
    assert_eq!(target(&sandbox, &flags), "ours");
    // The token in the environment takes precedence over the one in the contexts file.
    sandbox.run("--context prod list").failed(4);
    let sandbox = sandbox.without("SVCTOK_TOKEN");
    assert_eq!(target(&sandbox, "--context prod"), "ours");
    let stderr = sandbox
        .run("--context prod --store sqlite:x list")
        .failed(2);
    assert!(stderr.contains("specify only one of"), "{stderr}");
}

#[test]
fn saved_token_is_sent_only_to_its_server() {
    let test_server = TestServer::start();
    let (sandbox, _) = sandbox_with_context(&test_server);
    let other = TestServer::start();
    let stderr = sandbox
        .run(&format!("list --url {}", other.url()))
        .failed(4);
    assert!(stderr.contains("no token specified for"), "{stderr}");
    sandbox
        .with("SVCTOK_URL", other.url())
        .run("list")
        .failed(4);
}

#[test]
fn environment_selects_the_contexts_file() {
    let test_server = TestServer::start();
    let token = test_server.create(&[], &[]);
    let save = format!(
        "context --name a --url {} --service-token-stdin",
        test_server.url()
    );
    for (variable, value, file) in [
        ("SVCTOK_CONFIG", "mine.toml", "mine.toml"),
        ("XDG_CONFIG_HOME", "SANDBOX/xdg", "xdg/svctok/config.toml"),
        ("XDG_CONFIG_HOME", "", CONFIG),
        ("XDG_CONFIG_HOME", "not/absolute", CONFIG),
    ] {
        let sandbox = Sandbox::without_store();
        let value = value.replace("SANDBOX", sandbox.path.to_str().unwrap());
        let sandbox = sandbox.with(variable, &value);
        sandbox.run_with(&save, &token).succeeded();
        assert!(sandbox.file(file).exists(), "{variable}={value}");
    }
}

#[cfg(unix)]
#[test]
fn device_as_contexts_file_is_read_as_empty() {
    let sandbox = Sandbox::without_store().with("SVCTOK_CONFIG", "/dev/null");
    let stdout = sandbox.run("context list -o json").succeeded();
    assert_eq!(stdout, "{\n  \"contexts\": []\n}\n");
}

#[test]
fn works_without_a_home_directory() {
    let sandbox = Sandbox::new().without("HOME").without("USER");
    sandbox.create("--name a");
    assert!(sandbox.run("list").succeeded().contains(" | a "));
    sandbox.run_with("hash", "abc").succeeded();
    sandbox.run("--help").succeeded();
}

#[test]
fn parse_error_names_the_line_without_quoting_it() {
    let sandbox = Sandbox::without_store();
    let token = format!("current = \"a\"\n[contexts.a]\nservice_token = {TOKEN}\n");
    for (text, line) in [
        (token.as_str(), 3),
        ("current = 1\n", 1),
        ("\ncolour = \"red\"\n", 2),
        ("[contexts.a]\nstore = \"postgress://u:hush@db/t\"\n", 2),
    ] {
        sandbox.write(CONFIG, text);
        let stderr = sandbox.run("list").failed(2);
        assert!(
            stderr.contains(&format!("in line {line}\n")),
            "{text}: {stderr}"
        );
        assert!(
            !stderr.contains("hush") && !stderr.contains("svctok-"),
            "{stderr}"
        );
    }
    sandbox.write(
        CONFIG,
        "[contexts.a]\nurl = \"http://127.0.0.1:1\"\nstore = \"sqlite:x\"\n",
    );
    let stderr = sandbox.run("list --context a").failed(2);
    assert!(stderr.contains("a url or a store"), "{stderr}");
}

#[test]
fn context_saves_an_absolute_store_path() {
    let sandbox = Sandbox::new();
    sandbox.create("--name ci");
    let sandbox = sandbox.without("SVCTOK_STORE");
    sandbox
        .run("context save --name local --store sqlite:tokens.db")
        .succeeded();
    fs::create_dir(sandbox.file("elsewhere")).unwrap();
    let command = sandbox
        .command("list")
        .current_dir(sandbox.file("elsewhere"));
    let listed = crate::sandbox::CommandOutput::of_command(command).succeeded();
    assert!(listed.contains(" | ci "), "{listed}");
}

#[test]
fn store_path_is_not_parsed_as_a_sqlite_uri() {
    for name in [":memory:", "file:tokens.db?mode=memory"] {
        let sandbox = Sandbox::without_store().with("SVCTOK_STORE", &format!("sqlite:{name}"));
        let id = id_of(&sandbox.create("--name ci"));
        assert!(sandbox.run("list").succeeded().contains(&id), "{name}");
        assert!(sandbox.file(name).is_file(), "{name}");
    }
}
