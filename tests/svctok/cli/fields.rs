//! Text and time fields of a token on the command line.

use crate::sandbox::{CommandOutput, Sandbox};
use crate::test_server::TestServer;

/// Returns a sandbox that uses the server and one that uses a store.
fn sandboxes(test_server: &TestServer) -> [Sandbox; 2] {
    let token = test_server.create(&["service-tokens:admin"], &[]);
    let server = Sandbox::without_store()
        .with("SVCTOK_URL", test_server.url())
        .with("SVCTOK_TOKEN", &token);
    [server, Sandbox::new()]
}

#[test]
fn expiry_is_capped_at_the_end_of_year_9999() {
    let test_server = TestServer::start();
    for sandbox in sandboxes(&test_server) {
        for expiry in [
            "--expiration 9999-12-31",
            "--expiration 9999-12-31T23:59:59Z",
            "--expires-in 9000y",
            "--expires-in P99999Y",
        ] {
            sandbox.create(&format!("--name x {expiry}"));
            let listed = sandbox.json("list --name x --state active");
            let token = &listed["service_tokens"][0];
            assert_eq!(token["expires_at"], "9999-12-31T23:59:59Z", "{expiry}");
            let table = sandbox.run("list --name x").succeeded();
            assert!(table.contains("| 9999-12-31 |"), "{expiry}: {table}");
            for time in ["9999-12-31", "9999-12-31T23:59:59Z"] {
                let filter = format!("list --name x --expires-before {time}");
                let found = sandbox.json(&filter);
                assert_eq!(found["service_tokens"], serde_json::json!([]), "{filter}");
            }
            let id = token["id"].as_str().unwrap();
            let update = format!("update {id} --not-before 9999-12-31");
            let updated = sandbox.json(&update);
            assert_eq!(updated["not_before"], "9999-12-31T00:00:00Z");
            sandbox.run(&format!("delete {id}")).succeeded();
        }
    }
}

#[test]
fn trims_roles_and_scopes_and_rejects_invisible_characters() {
    let test_server = TestServer::start();
    for sandbox in sandboxes(&test_server) {
        let run = |arguments: &[&str]| {
            CommandOutput::of_command(sandbox.command("create -o json").args(arguments))
        };
        let roles = [
            "--name",
            "ci",
            "--roles",
            "viewer, admin",
            "--scopes",
            "a:b , c:d",
        ];
        run(&roles).succeeded();
        let listed = sandbox.json("list --name ci");
        let token = &listed["service_tokens"][0];
        assert_eq!(token["roles"], serde_json::json!(["viewer", "admin"]));
        assert_eq!(token["scopes"], serde_json::json!(["a:b", "c:d"]));
        for arguments in [
            ["--name", "a\u{202e}b"],
            ["--name", "a\u{200b}b"],
            ["--name", "  "],
            ["--name", ""],
        ] {
            let stderr = run(&arguments).failed(1);
            assert!(stderr.contains("name: "), "{arguments:?}: {stderr}");
            assert!(!stderr.contains(['\u{202e}', '\u{200b}']), "{stderr}");
        }
    }
}

#[test]
fn owners_are_set_filtered_and_removed() {
    let test_server = TestServer::start();
    let [server, store] = sandboxes(&test_server);
    let file = Sandbox::without_store().with("SVCTOK_STORE", "file:tokens.toml");
    for sandbox in [server, store, file] {
        let token = sandbox.create("--name a --owner user:1");
        sandbox.create("--name b --owner user:2");
        let owned = || sandbox.json("list --owner user:1");
        let id = owned()["service_tokens"][0]["id"].clone();
        let id = id.as_str().unwrap();
        assert_eq!(id, crate::sandbox::id_of(&token));
        assert_eq!(owned()["service_tokens"].as_array().unwrap().len(), 1);
        let table = sandbox.run(&format!("get {id}")).succeeded();
        assert!(table.contains("OWNER       | user:1\n"), "{table}");
        let moved = sandbox.json(&format!("update {id} --owner user:3"));
        assert_eq!(moved["owner"], "user:3");
        assert_eq!(owned()["service_tokens"], serde_json::json!([]));
        let removed = sandbox.json(&format!("update {id} --no-owner"));
        assert_eq!(removed["owner"], serde_json::Value::Null);
        sandbox.run("create --name c --owner= ").failed(1);
        let both = format!("update {id} --owner x --no-owner");
        sandbox.run(&both).failed(2);
        sandbox.run("delete --owner user:2 --expect 1").succeeded();
    }
}

#[test]
fn lists_of_an_earlier_server_leave_out_revoked_tokens() {
    let token = |name: &str, state: &str| {
        serde_json::json!({
            "id": "7Hq2mX9bTe", "name": name, "roles": [], "scopes": [], "state": state,
        })
    };
    let refused = serde_json::json!({
        "type": "about:blank", "title": "Unprocessable Content", "status": 422,
        "detail": "fields break rules", "code": "invalid_fields",
        "errors": [{ "pointer": "/without_revoked", "detail": "unknown field" }],
    });
    let listed = serde_json::json!({
        "next_cursor": null,
        "service_tokens": [token("gone", "revoked"), token("ci", "active")],
    });
    let test_server = TestServer::with_responses([(422, refused), (200, listed)]);
    let sandbox = Sandbox::without_store()
        .with("SVCTOK_URL", test_server.url())
        .with(
            "SVCTOK_TOKEN",
            "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n",
        );
    let listed = sandbox.json("list");
    assert_eq!(listed["service_tokens"].as_array().unwrap().len(), 1);
    assert_eq!(listed["service_tokens"][0]["name"], "ci");
    assert_eq!(
        listed["service_tokens"][0]["owner"],
        serde_json::Value::Null
    );
}
