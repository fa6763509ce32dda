//! Deletion by filter, which repeats the call until no token remains.

use serde_json::{Value, json};
use tower_service_token::registry::TokenFilter;
use tower_service_token::store::TokenStatus;

use crate::sandbox::{Sandbox, TOKEN, id_of};
use crate::test_server::TestServer;

fn sandbox_for(test_server: &TestServer, token: &str) -> Sandbox {
    Sandbox::without_store()
        .with("SVCTOK_URL", test_server.url())
        .with("SVCTOK_TOKEN", token)
}

/// Returns the response to a call that revoked these tokens.
fn revocation_response(ids: &[&str], remaining: usize) -> (u16, Value) {
    let body = json!({
        "dry_run": false, "ids": ids, "revoked": ids.len(), "remaining": remaining,
    });
    (200, body)
}

#[test]
fn repeats_until_no_token_remains() {
    let test_server = TestServer::slow();
    let admin = test_server.create(&["service-tokens:admin"], &[]);
    // Each call revokes 500 tokens in one transaction.
    for _ in 0..1_100 {
        test_server.create(&[], &["ci"]);
    }
    let sandbox = sandbox_for(&test_server, &admin);
    let output = sandbox.run("delete --role ci --expect 1100 -o json");
    assert_eq!(output.stderr, "Deleted 1100 tokens.\n");
    let deleted: Value = serde_json::from_str(&output.succeeded()).unwrap();
    assert_eq!(deleted["ids"].as_array().unwrap().len(), 1_100);
    assert_eq!(deleted["revoked"], 1_100);
    assert_eq!(deleted["remaining"], 0);
    let active = TokenFilter::new().with_status(TokenStatus::Active);
    let active = test_server.tokens.preview_revocation(active);
    assert_eq!(test_server.runtime.block_on(active).unwrap().count, 1);
}

#[test]
fn shows_no_progress_bar_in_a_pipe() {
    let sandbox = Sandbox::new();
    sandbox.create("--name ci");
    let output = sandbox.run("delete --name ci --expect 1");
    assert!(
        output.stderr.starts_with("Deleted 1 token.\n"),
        "{output:?}"
    );
}

#[test]
fn stops_if_a_call_deletes_no_token() {
    let test_server = TestServer::with_responses([
        revocation_response(&["7Hq2mX9bTe"], 2),
        revocation_response(&[], 2),
    ]);
    let sandbox = sandbox_for(&test_server, TOKEN);
    let output = sandbox.run("delete --role ci --expect 3");
    assert_eq!(output.code, Some(3), "{output:?}");
    let deleted = "[SUCCESS] Service token deleted: 7Hq2mX9bTe\n";
    assert_eq!(output.stdout, deleted);
    let error = "error: deletion stopped: 1 token deleted, 2 remaining: the last call deleted none";
    assert!(output.stderr.contains(error), "{output:?}");

    let test_server = TestServer::with_responses([revocation_response(&[], 3)]);
    let sandbox = sandbox_for(&test_server, TOKEN);
    let stderr = sandbox.run("delete --role ci --expect 3").failed(3);
    let error =
        "error: deletion stopped: 0 tokens deleted, 3 remaining: the last call deleted none";
    assert!(stderr.contains(error), "{stderr}");
}

#[test]
fn reports_progress_if_a_later_call_fails() {
    let conflict = json!({
        "code": "unexpected_count", "detail": "filter matches 4 tokens, expected 3",
    });
    let outage = json!({ "code": "auth_unavailable", "detail": "the store is unavailable" });
    for (failure, code, error) in [
        (
            (409, conflict),
            1,
            "deletion stopped: 2 tokens deleted, 3 remaining: filter matches 4 tokens, expected 3",
        ),
        (
            (503, outage),
            3,
            "deletion stopped: 2 tokens deleted, up to 3 remaining: ",
        ),
    ] {
        let first = revocation_response(&["7Hq2mX9bTe", "00UWJyBksH"], 3);
        let test_server = TestServer::with_responses([first, failure]);
        let output = sandbox_for(&test_server, TOKEN).run("delete --role ci --expect 5 -o json");
        assert_eq!(output.code, Some(code), "{output:?}");
        assert!(output.stderr.contains(error), "{output:?}");
        assert!(
            output
                .stderr
                .contains("\nhint: count the remaining tokens with --dry-run")
        );
        let deleted: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(deleted["ids"], json!(["7Hq2mX9bTe", "00UWJyBksH"]));
        assert_eq!(deleted["remaining"], 3);
    }
}

#[test]
fn preview_counts_forbidden_tokens() {
    let test_server = TestServer::start();
    test_server.create(&["service-tokens:admin"], &[]);
    let scopes = ["service-tokens:read", "service-tokens:write"];
    let writer = test_server.create(&scopes, &["ci"]);
    let covered = test_server.create(&[], &["ci"]);
    test_server.create(&[], &["ci", "root"]);
    let sandbox = sandbox_for(&test_server, &writer);
    let preview = sandbox.json("delete --role ci --dry-run");
    assert_eq!(preview["count"], 3);
    assert_eq!(preview["forbidden"], 1);
    assert_eq!(preview["needs_expect"], true);
    let output = sandbox.run("delete --role ci --dry-run");
    assert!(output.stdout.contains(&id_of(&covered)), "{output:?}");
    let note = "The deletion would be refused: the caller may not delete 1 of them.";
    assert!(output.stderr.contains(note), "{output:?}");
    let stderr = sandbox.run("delete --role ci --expect 3").failed(1);
    let error = "the caller may not revoke 1 of 3 matching tokens";
    assert!(stderr.contains(error), "{stderr}");
}

#[test]
fn preview_shows_a_sample_of_many_tokens() {
    let test_server = TestServer::start();
    let admin = test_server.create(&["service-tokens:admin"], &[]);
    for _ in 0..101 {
        test_server.create(&[], &["ci"]);
    }
    let output = sandbox_for(&test_server, &admin).run("delete --role ci --dry-run");
    let stderr = "101 tokens would be deleted.\nThe first 100 of them are shown.\n";
    assert_eq!(output.stderr, stderr);
    assert_eq!(output.succeeded().lines().count(), 100);
}

#[test]
fn deletion_without_a_filter_requires_the_all_tokens_flag() {
    let test_server = TestServer::start();
    let admin = test_server.create(&["service-tokens:admin"], &[]);
    let store = Sandbox::new();
    store.create("--name first");
    for sandbox in [sandbox_for(&test_server, &admin), store] {
        sandbox.create("--name second");
        for words in ["delete --dry-run", "delete --expect 2"] {
            let stderr = sandbox.run(words).failed(2);
            let error = "error: no filter specified\n\
                         hint: specify a filter, or --all-tokens for every token\n";
            assert_eq!(stderr, error, "{words}");
        }
        for words in [
            "--all-tokens",
            "--all-tokens --name second --dry-run",
            "0000000000 --all-tokens",
        ] {
            sandbox.run(&format!("delete {words}")).failed(2);
        }
        assert_eq!(sandbox.json("delete --all-tokens --dry-run")["count"], 2);
    }
    let store = Sandbox::new();
    store.create("--name first");
    store.run("delete --all-tokens --expect 1").succeeded();
}

#[test]
fn rejects_deletion_of_the_last_admin() {
    let test_server = TestServer::start();
    let admin = test_server.create(&["service-tokens:admin"], &[]);
    let server = sandbox_for(&test_server, &admin);
    let store = Sandbox::new();
    store.create("--name caller --scopes service-tokens:admin");
    for sandbox in [server, store] {
        let words = "delete --name caller --expect 1";
        let stderr = sandbox.run(words).failed(1);
        let error = "the filter matches the last token that may administer tokens";
        assert!(stderr.contains(error), "{stderr}");
        sandbox.run(&format!("{words} --last-admin")).failed(2);
        let note = "The deletion would be refused: no other valid token may administer tokens.\n";
        let dry_run = "delete --name caller --dry-run";
        assert!(sandbox.run(dry_run).stderr.ends_with(note));
        assert_eq!(sandbox.json(dry_run)["ends_administration"], true);
        sandbox.create("--name spare --scopes service-tokens:admin");
        assert!(!sandbox.run(dry_run).stderr.contains(note));
        assert_eq!(sandbox.json(dry_run)["ends_administration"], false);
        sandbox.run(words).succeeded();
    }
}
