//! The states that `list --all` shows.

use serde_json::{Value, json};

use crate::sandbox::{Sandbox, id_of};
use crate::test_server::TestServer;

#[test]
fn list_all_has_a_state_column() {
    let test_server = TestServer::start();
    let token = test_server.create(&["service-tokens:admin"], &[]);
    let server = Sandbox::without_store()
        .with("SVCTOK_URL", test_server.url())
        .with("SVCTOK_TOKEN", &token);
    for sandbox in [server, Sandbox::new()] {
        let mut states = Vec::new();
        for (state, command) in [
            ("active", None),
            ("disabled", Some("disable")),
            ("revoked", Some("delete")),
        ] {
            let secret = sandbox.create(&format!("--name {state} --label test=states"));
            let id = id_of(&secret);
            if let Some(command) = command {
                sandbox.run(&format!("{command} {id}")).succeeded();
            }
            states.push((id, state));
        }
        let table = sandbox.run("list --all --label test=states").succeeded();
        let mut lines = table.lines();
        let heading = "ID         | NAME     | STATE    | EXPIRATION | ROLES";
        assert_eq!(lines.next(), Some(heading));
        let mut lines: Vec<_> = lines.collect();
        lines.sort_unstable();
        states.sort_unstable();
        for (line, (id, state)) in lines.iter().zip(&states) {
            let expected = format!("{id} | {state:8} | {state:8} |            | []");
            assert_eq!(*line, expected);
        }
        assert_eq!(lines.len(), states.len(), "{table}");

        let listed = sandbox.json("list --all --label test=states");
        let tokens = listed["service_tokens"].as_array().unwrap();
        assert_eq!(tokens.len(), 3);
        for token in tokens {
            assert_eq!(token["state"], token["name"], "{token}");
        }
        // Other lists keep their columns.
        let table = sandbox.run("list --label test=states").succeeded();
        assert!(
            table.starts_with("ID         | NAME     | EXPIRATION | ROLES\n"),
            "{table}"
        );
    }
}

/// A token file may contain an expired token.
#[test]
fn list_all_shows_expired_tokens() {
    let sandbox = Sandbox::without_store().with("SVCTOK_STORE", "file:tokens.toml");
    let digest = tower_service_token::digest::TokenDigest::of("old");
    sandbox.write(
        "tokens.toml",
        &format!(
            "[[tokens]]\nname = \"old\"\nid = \"7Hq2mX9bTe\"\ndigest = \"{digest}\"\n\
             expires_at = \"2020-12-31\"\n"
        ),
    );
    let table = sandbox.run("list --all").succeeded();
    let line = "7Hq2mX9bTe | old  | expired | 2020-12-31 | []";
    assert_eq!(table.lines().nth(1), Some(line), "{table}");
    let listed: Value = sandbox.json("list --all");
    assert_eq!(listed["service_tokens"][0]["state"], json!("expired"));
}
