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
