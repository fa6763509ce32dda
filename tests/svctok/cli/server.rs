//! Management of tokens through a server.

use axum::http::StatusCode;
use test_support::certificates::Authority;
use tower_service_token::MemoryStore;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::testing::{Fault, FaultyStore};

use crate::sandbox::{Sandbox, TOKEN, id_of};
use crate::test_server::TestServer;

/// Returns a sandbox that uses the server, with a token that has these scopes and roles.
fn sandbox_for(test_server: &TestServer, scopes: &[&str], roles: &[&str]) -> Sandbox {
    let token = test_server.create(scopes, roles);
    Sandbox::without_store()
        .with("SVCTOK_URL", test_server.url())
        .with("SVCTOK_TOKEN", &token)
}

#[test]
fn commands_behave_the_same_on_server_and_store() {
    let test_server = TestServer::start();
    let server = sandbox_for(&test_server, &["service-tokens:admin"], &[]);
    let store = Sandbox::new();
    store.create("--name first");
    for sandbox in [server, store] {
        let secret = sandbox.create("--name ci --roles a,b --expiration 2099-12-31 --label k=v");
        let id = id_of(&secret);
        let row = format!("{id} | ci ");
        assert!(sandbox.run("list").succeeded().contains(&row));
        let listed = sandbox.json("list --name ci");
        let token = sandbox.json(&format!("get {id}"));
        let mut expected = listed["service_tokens"][0].clone();
        expected["revision"] = 1.into();
        assert_eq!(token, expected);
        assert_eq!(token["expires_at"], "2100-01-01T00:00:00Z");
        let changed = sandbox.json(&format!(
            "update {id} --roles c --no-expiration --no-label k"
        ));
        assert_eq!(changed["roles"], serde_json::json!(["c"]));
        assert_eq!(changed["expires_at"], serde_json::Value::Null);
        assert_eq!(changed["labels"], serde_json::json!({}));

        let verify_code = |secret: &str| sandbox.run_with("verify", secret).code;
        assert_eq!(verify_code(&secret), Some(0));
        assert_eq!(sandbox.json(&format!("disable {id}"))["state"], "disabled");
        assert_eq!(verify_code(&secret), Some(1));
        assert_eq!(
            sandbox.json(&format!("enable --id {id}"))["state"],
            "active"
        );
        let rotated = sandbox.run(&format!("rotate {id} -o token")).succeeded();
        assert_eq!(verify_code(&secret), Some(1));
        assert_eq!(verify_code(&rotated), Some(0));
        let deleted = sandbox.run(&format!("delete {id}")).succeeded();
        assert_eq!(deleted, format!("[SUCCESS] Service token deleted: {id}\n"));
        assert_eq!(verify_code(&rotated), Some(1));
        assert_eq!(
            sandbox.json("list --state revoked")["service_tokens"][0]["id"],
            id
        );
    }
}

#[test]
fn bulk_deletion_requires_the_expected_count() {
    let test_server = TestServer::start();
    let server = sandbox_for(&test_server, &["service-tokens:admin"], &["admin"]);
    let store = Sandbox::new();
    store.create("--name caller --roles admin");
    for sandbox in [server, store] {
        let secrets = [(); 3].map(|()| sandbox.create("--name ci --roles admin --label run=7"));
        let ids: Vec<_> = secrets.iter().map(|secret| id_of(secret)).collect();
        let has_all_ids = |text: &str| ids.iter().all(|id| text.contains(id));
        let active = || {
            sandbox
                .run("list --state active")
                .succeeded()
                .lines()
                .count()
                - 1
        };
        for words in [
            "",
            "--dry-run --label run=7 ID",
            "--expect 3 ID",
            "--label run=7",
        ] {
            sandbox
                .run(&format!("delete {}", words.replace("ID", &ids[0])))
                .failed(2);
        }
        let preview = sandbox.run("delete --label run=7 --dry-run").succeeded();
        assert!(
            has_all_ids(&preview) && preview.lines().count() == 3,
            "{preview}"
        );
        assert_eq!(sandbox.json("delete --role admin --dry-run")["count"], 4);
        let stderr = sandbox.run("delete --role admin --expect 3").failed(1);
        assert!(
            stderr.contains("filter matches 4 tokens, expected 3"),
            "{stderr}"
        );
        let hint = "\nhint: count the matching tokens again with --dry-run\n";
        assert!(stderr.ends_with(hint), "{stderr}");
        assert_eq!(active(), 4);
        let deleted = sandbox.run("delete --label run=7 --expect 3").succeeded();
        assert!(has_all_ids(&deleted) && deleted.starts_with("[SUCCESS] Service token deleted: "));
        assert_eq!(active(), 1);
    }
}

#[test]
fn list_follows_pages_up_to_the_limit() {
    let test_server = TestServer::start();
    let sandbox = sandbox_for(&test_server, &["service-tokens:read"], &[]);
    for _ in 0..1004 {
        test_server.create(&[], &[]);
    }
    let rows = |words: &str| sandbox.run(words).succeeded().lines().count() - 1;
    assert_eq!(rows("list"), 1005);
    assert_eq!(rows("list --limit 1003"), 1003);
    assert_eq!(rows("list --limit 7"), 7);
}

#[test]
fn verify_reports_the_denial_and_missing_rights() {
    let test_server = TestServer::start();
    let sandbox = Sandbox::without_store().with("SVCTOK_URL", test_server.url());
    let token = test_server.create(&["projects:*"], &["deployer"]);
    let verify = |words: &str, token: &str| sandbox.run_with(&format!("verify {words}"), token);
    let accepted = verify("--role deployer --scope projects:write", &token).succeeded();
    assert_eq!(
        accepted,
        format!("[SUCCESS] Service token is valid: {}\n", id_of(&token))
    );
    let missing = verify("--role admin --scope users:read", &token).failed(1);
    assert!(missing.contains("lacks admin, users:read"), "{missing}");
    let unknown = verify("", TOKEN).failed(1);
    assert!(unknown.contains("token rejected"), "{unknown}");
    let mistyped = TOKEN.replace('Z', "z");
    assert!(verify("", &mistyped).failed(1).contains("mistyped"));
}

#[test]
fn failures_have_exit_codes_and_hints() {
    let test_server = TestServer::start();
    let admin = sandbox_for(&test_server, &["service-tokens:admin"], &[]);
    let writer = sandbox_for(&test_server, &["service-tokens:write"], &["a"]);
    let unknown = Sandbox::without_store()
        .with("SVCTOK_URL", test_server.url())
        .with("SVCTOK_TOKEN", TOKEN);
    let without_token = Sandbox::without_store().with("SVCTOK_URL", test_server.url());
    let unreachable = Sandbox::without_store()
        .with("SVCTOK_URL", "http://127.0.0.1:1")
        .with("SVCTOK_TOKEN", TOKEN);
    for (sandbox, words, code, error) in [
        (&admin, "get 0000000000", 1, "there is no such token"),
        (&admin, "create --name x --label =", 2, "KEY=VALUE"),
        (&admin, "create --name x --scopes a\"", 1, "scopes/0: "),
        (
            &admin,
            "create --name x --expiration 1999-12-31",
            1,
            "expires_at: ",
        ),
        (&writer, "list", 1, "service-tokens:read"),
        (
            &writer,
            "create --name x --roles a,b",
            1,
            "missing roles or scopes of the token: b",
        ),
        (&unknown, "list", 4, "SVCTOK_TOKEN"),
        (
            &without_token,
            "list",
            4,
            "no token specified for http://127.0.0.1",
        ),
        (&unreachable, "list", 4, "check that the server is running"),
    ] {
        let stderr = sandbox.run(words).failed(code);
        assert!(stderr.contains(error), "{words}: {stderr}");
        assert!(stderr.starts_with("error: "), "{words}: {stderr}");
        assert!(
            !stderr.contains("svctok-7Hq2mX9bTe_Zk3"),
            "{words}: {stderr}"
        );
    }
}

#[test]
fn self_names_the_callers_token_and_needs_no_scope() {
    let test_server = TestServer::start();
    test_server.create(&["service-tokens:admin"], &[]);
    let first = test_server.create(&[], &["ci"]);
    let id = id_of(&first);
    let sandbox = Sandbox::without_store().with("SVCTOK_URL", test_server.url());
    let sandbox = sandbox.with("SVCTOK_TOKEN", &first);
    sandbox.run(&format!("get {id}")).failed(1);
    assert_eq!(sandbox.json("get self")["id"], id);
    assert_eq!(sandbox.json("get --id self")["revision"], 1);
    let stale = sandbox.run("rotate self --if-revision 7").failed(1);
    assert!(stale.contains("the token was changed since it was read"));
    let rotated = sandbox.run("rotate self --grace 1h -o token --if-revision 1");
    let rotated = rotated.succeeded();
    // The client still uses the previous secret.
    assert_eq!(sandbox.json("get self")["revision"], 2);
    let sandbox = sandbox.with("SVCTOK_TOKEN", rotated.trim_end());
    sandbox.run("delete self --if-revision 7").failed(1);
    let deleted = sandbox.run("delete self --if-revision 2").succeeded();
    assert_eq!(deleted, format!("[SUCCESS] Service token deleted: {id}\n"));
    sandbox.run("get self").failed(4);
    let last = test_server.create(&[], &["ci"]);
    let sandbox = sandbox.with("SVCTOK_TOKEN", &last);
    assert_eq!(sandbox.json("delete self")["id"], id_of(&last));
}

#[test]
fn self_is_rejected_without_a_server_and_by_other_commands() {
    let test_server = TestServer::start();
    let server = sandbox_for(&test_server, &["service-tokens:admin"], &[]);
    let store = Sandbox::new();
    store.create("--name ci");
    for words in ["get self", "rotate self", "delete self"] {
        let stderr = store.run(words).failed(2);
        assert!(
            stderr.contains("a store is used without a token"),
            "{stderr}"
        );
    }
    for words in ["update self --name x", "disable self", "enable self"] {
        let stderr = server.run(words).failed(2);
        let error = "only get, rotate and delete accept `self` as the ID";
        assert!(stderr.contains(error), "{stderr}");
    }
    server.run("delete self").failed(1);
    server.run("delete self --last-admin").succeeded();
}

#[test]
fn each_denied_escalation_has_a_hint() {
    let test_server = TestServer::start();
    test_server.create(&["service-tokens:admin"], &[]);
    let writer = NewToken::new("writer")
        .with_scopes(["service-tokens:write"])
        .with_expiry("1d".parse().unwrap());
    let writer = test_server
        .runtime
        .block_on(test_server.tokens.create(writer))
        .unwrap();
    test_server.create(&[], &["root"]);
    let sandbox = Sandbox::without_store()
        .with("SVCTOK_URL", test_server.url())
        .with("SVCTOK_TOKEN", writer.expose_secret());
    for (words, error, hint) in [
        (
            "create --name x --roles root",
            "missing roles or scopes of the token: root",
            "use a token that has these roles and scopes, or one with the scope \
             service-tokens:admin",
        ),
        (
            "create --name x --expires-in 2d",
            "token would outlive the caller's own",
            "set --expires-in or --expiration to at most the expiry of the caller's token, which \
             `svctok get self` shows",
        ),
        (
            "delete --role root --expect 1",
            "the caller may not revoke 1 of 1 matching tokens",
            "narrow the filter to tokens that the caller's token covers, or use a token with the \
             scope service-tokens:admin",
        ),
    ] {
        let stderr = sandbox.run(words).failed(1);
        assert!(stderr.contains(error), "{words}: {stderr}");
        let hint = format!("\nhint: {hint}\n");
        assert!(stderr.ends_with(&hint), "{words}: {stderr}");
    }
}

#[test]
fn distinguishes_server_errors_from_denials() {
    let callers = MemoryStore::new();
    let store = FaultyStore::new(callers.clone());
    let test_server = TestServer::with_stores(callers, store.clone());
    let sandbox = sandbox_for(&test_server, &["service-tokens:admin"], &[]);
    store.inject(Fault::Error);
    sandbox.run("list").failed(3);
    let other = TestServer::with_status(StatusCode::NOT_FOUND);
    let sandbox = sandbox.with("SVCTOK_URL", other.url());
    let stderr = sandbox.run("list").failed(3);
    assert!(
        stderr.contains("the URL is the base of the management API"),
        "{stderr}"
    );
}

#[test]
fn private_ca_is_trusted_once_configured() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let test_server = TestServer::start_with(&ours.certificate(&["127.0.0.1"]));
    let sandbox = sandbox_for(&test_server, &["service-tokens:admin"], &[]);
    for (name, authority) in [("ours.pem", &ours), ("other.pem", &other)] {
        sandbox.write(name, authority.pem());
    }
    let sandbox = sandbox.with("SSL_CERT_FILE", "other.pem");
    let stderr = sandbox.run("list").failed(4);
    assert!(stderr.contains("certificate"), "{stderr}");
    sandbox
        .with("SSL_CERT_FILE", "ours.pem")
        .run("list")
        .succeeded();
}
