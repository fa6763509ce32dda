//! Tokens are managed at a server.

use axum::http::StatusCode;
use tower_service_token::MemoryStore;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::testing::{Fault, FaultyStore};

use crate::certificates::Authority;
use crate::desk::{Desk, TOKEN, id_of};
use crate::site::Site;

/// A desk whose commands go to the site, with a token that has these scopes and roles.
fn desk_at(site: &Site, scopes: &[&str], roles: &[&str]) -> Desk {
    let token = site.create(scopes, roles);
    Desk::bare()
        .with("SVCTOK_URL", site.url())
        .with("SVCTOK_TOKEN", &token)
}

#[test]
fn every_command_does_at_a_server_what_it_does_on_a_store() {
    let site = Site::start();
    let server = desk_at(&site, &["service-tokens:admin"], &[]);
    let store = Desk::new();
    store.create("--name first");
    for desk in [server, store] {
        let secret = desk.create("--name ci --roles a,b --expiration 2099-12-31 --label k=v");
        let id = id_of(&secret);
        let row = format!("{id} | ci ");
        assert!(desk.run("list").succeeded().contains(&row));
        let listed = desk.json("list --name ci");
        let token = desk.json(&format!("get {id}"));
        let mut expected = listed["service_tokens"][0].clone();
        expected["revision"] = 1.into();
        assert_eq!(token, expected);
        assert_eq!(token["expires_at"], "2100-01-01T00:00:00Z");
        let changed = desk.json(&format!(
            "update {id} --roles c --no-expiration --no-label k"
        ));
        assert_eq!(changed["roles"], serde_json::json!(["c"]));
        assert_eq!(changed["expires_at"], serde_json::Value::Null);
        assert_eq!(changed["labels"], serde_json::json!({}));

        let good = |secret: &str| desk.run_with("verify", secret).code;
        assert_eq!(good(&secret), Some(0));
        assert_eq!(desk.json(&format!("disable {id}"))["state"], "disabled");
        assert_eq!(good(&secret), Some(1));
        assert_eq!(desk.json(&format!("enable --id {id}"))["state"], "active");
        let rotated = desk.run(&format!("rotate {id} -o token")).succeeded();
        assert_eq!(good(&secret), Some(1));
        assert_eq!(good(&rotated), Some(0));
        let deleted = desk.run(&format!("delete {id}")).succeeded();
        assert_eq!(deleted, format!("[SUCCESS] Service token deleted: {id}\n"));
        assert_eq!(good(&rotated), Some(1));
        assert_eq!(
            desk.json("list --state revoked")["service_tokens"][0]["id"],
            id
        );
    }
}

#[test]
fn many_tokens_are_deleted_only_if_they_are_as_many_as_expected() {
    let site = Site::start();
    let server = desk_at(&site, &["service-tokens:admin"], &["admin"]);
    let store = Desk::new();
    store.create("--name caller --roles admin");
    for desk in [server, store] {
        let secrets = [(); 3].map(|()| desk.create("--name ci --roles admin --label run=7"));
        let ids: Vec<_> = secrets.iter().map(|secret| id_of(secret)).collect();
        let is_shown = |text: &str| ids.iter().all(|id| text.contains(id));
        let active = || desk.run("list --state active").succeeded().lines().count() - 1;
        for words in [
            "",
            "--dry-run --label run=7 ID",
            "--expect 3 ID",
            "--label run=7",
        ] {
            desk.run(&format!("delete {}", words.replace("ID", &ids[0])))
                .failed(2);
        }
        let trial = desk.run("delete --label run=7 --dry-run").succeeded();
        assert!(is_shown(&trial) && trial.lines().count() == 3, "{trial}");
        assert_eq!(desk.json("delete --role admin --dry-run")["count"], 4);
        let stderr = desk.run("delete --role admin --expect 3").failed(1);
        assert!(
            stderr.contains("filter matches 4 tokens, expected 3"),
            "{stderr}"
        );
        let hint = "\nhint: count the matching tokens again with --dry-run\n";
        assert!(stderr.ends_with(hint), "{stderr}");
        assert_eq!(active(), 4);
        let said = desk.run("delete --label run=7 --expect 3").succeeded();
        assert!(is_shown(&said) && said.starts_with("[SUCCESS] Service token deleted: "));
        assert_eq!(active(), 1);
    }
}

#[test]
fn a_list_goes_on_after_the_largest_page_unless_it_is_limited() {
    let site = Site::start();
    let desk = desk_at(&site, &["service-tokens:read"], &[]);
    for _ in 0..1004 {
        site.create(&[], &[]);
    }
    let rows = |words: &str| desk.run(words).succeeded().lines().count() - 1;
    assert_eq!(rows("list"), 1005);
    assert_eq!(rows("list --limit 1003"), 1003);
    assert_eq!(rows("list --limit 7"), 7);
}

#[test]
fn verify_tells_why_a_server_refuses_and_what_is_lacking() {
    let site = Site::start();
    let desk = Desk::bare().with("SVCTOK_URL", site.url());
    let token = site.create(&["projects:*"], &["deployer"]);
    let verify = |words: &str, token: &str| desk.run_with(&format!("verify {words}"), token);
    let good = verify("--role deployer --scope projects:write", &token).succeeded();
    assert_eq!(
        good,
        format!("[SUCCESS] Service token is good: {}\n", id_of(&token))
    );
    let lacking = verify("--role admin --scope users:read", &token).failed(1);
    assert!(lacking.contains("lacks admin, users:read"), "{lacking}");
    let unknown = verify("", TOKEN).failed(1);
    assert!(unknown.contains("the token is refused"), "{unknown}");
    let mistyped = TOKEN.replace('Z', "z");
    assert!(verify("", &mistyped).failed(1).contains("mistyped"));
}

#[test]
fn each_kind_of_failure_has_its_exit_code_and_says_what_to_do() {
    let site = Site::start();
    let admin = desk_at(&site, &["service-tokens:admin"], &[]);
    let minter = desk_at(&site, &["service-tokens:write"], &["a"]);
    let stranger = Desk::bare()
        .with("SVCTOK_URL", site.url())
        .with("SVCTOK_TOKEN", TOKEN);
    let nobody = Desk::bare().with("SVCTOK_URL", site.url());
    let nowhere = Desk::bare()
        .with("SVCTOK_URL", "http://127.0.0.1:1")
        .with("SVCTOK_TOKEN", TOKEN);
    for (desk, words, code, said) in [
        (&admin, "get 0000000000", 1, "there is no such token"),
        (&admin, "create --name x --label =", 2, "KEY=VALUE"),
        (&admin, "create --name x --scopes a\"", 1, "scopes/0: "),
        (
            &admin,
            "create --name x --expiration 1999-12-31",
            1,
            "expires_at: ",
        ),
        (&minter, "list", 1, "service-tokens:read"),
        (
            &minter,
            "create --name x --roles a,b",
            1,
            "missing roles or scopes of the token: b",
        ),
        (&stranger, "list", 4, "SVCTOK_TOKEN"),
        (&nobody, "list", 4, "there is no token for http://127.0.0.1"),
        (&nowhere, "list", 4, "look whether the server runs"),
    ] {
        let stderr = desk.run(words).failed(code);
        assert!(stderr.contains(said), "{words}: {stderr}");
        assert!(stderr.starts_with("error: "), "{words}: {stderr}");
        assert!(
            !stderr.contains("svctok-7Hq2mX9bTe_Zk3"),
            "{words}: {stderr}"
        );
    }
}

#[test]
fn self_is_the_token_of_the_caller_and_needs_no_scope() {
    let site = Site::start();
    site.create(&["service-tokens:admin"], &[]);
    let first = site.create(&[], &["ci"]);
    let id = id_of(&first);
    let desk = Desk::bare().with("SVCTOK_URL", site.url());
    let desk = desk.with("SVCTOK_TOKEN", &first);
    desk.run(&format!("get {id}")).failed(1);
    assert_eq!(desk.json("get self")["id"], id);
    assert_eq!(desk.json("get --id self")["revision"], 1);
    let stale = desk.run("rotate self --if-revision 7").failed(1);
    assert!(stale.contains("the token was changed since it was read"));
    let rotated = desk.run("rotate self --grace 1h -o token --if-revision 1");
    let rotated = rotated.succeeded();
    // With the previous secret.
    assert_eq!(desk.json("get self")["revision"], 2);
    let desk = desk.with("SVCTOK_TOKEN", rotated.trim_end());
    desk.run("delete self --if-revision 7").failed(1);
    let deleted = desk.run("delete self --if-revision 2").succeeded();
    assert_eq!(deleted, format!("[SUCCESS] Service token deleted: {id}\n"));
    desk.run("get self").failed(4);
    let last = site.create(&[], &["ci"]);
    let desk = desk.with("SVCTOK_TOKEN", &last);
    assert_eq!(desk.json("delete self")["id"], id_of(&last));
}

#[test]
fn self_is_refused_without_a_server_and_by_other_commands() {
    let site = Site::start();
    let server = desk_at(&site, &["service-tokens:admin"], &[]);
    let store = Desk::new();
    store.create("--name ci");
    for words in ["get self", "rotate self", "delete self"] {
        let stderr = store.run(words).failed(2);
        assert!(stderr.contains("a store is used without one"), "{stderr}");
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
fn each_denied_escalation_has_its_hint() {
    let site = Site::start();
    site.create(&["service-tokens:admin"], &[]);
    let writer = NewToken::new("writer")
        .with_scopes(["service-tokens:write"])
        .with_expiry("1d".parse().unwrap());
    let writer = site.runtime.block_on(site.tokens.create(writer)).unwrap();
    site.create(&[], &["root"]);
    let desk = Desk::bare()
        .with("SVCTOK_URL", site.url())
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
        let stderr = desk.run(words).failed(1);
        assert!(stderr.contains(error), "{words}: {stderr}");
        let hint = format!("\nhint: {hint}\n");
        assert!(stderr.ends_with(&hint), "{words}: {stderr}");
    }
}

#[test]
fn an_error_of_the_server_is_told_from_a_refusal() {
    let callers = MemoryStore::new();
    let store = FaultyStore::new(callers.clone());
    let site = Site::over(callers, store.clone());
    let desk = desk_at(&site, &["service-tokens:admin"], &[]);
    store.inject(Fault::Error);
    desk.run("list").failed(3);
    let other = Site::answering(StatusCode::NOT_FOUND);
    let desk = desk.with("SVCTOK_URL", other.url());
    let stderr = desk.run("list").failed(3);
    assert!(
        stderr.contains("the URL is that of the management API"),
        "{stderr}"
    );
}

#[test]
fn a_server_of_a_private_authority_is_asked_once_the_authority_is_named() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let site = Site::start_with(&ours.certificate(&["127.0.0.1"]));
    let desk = desk_at(&site, &["service-tokens:admin"], &[]);
    for (name, authority) in [("ours.pem", &ours), ("other.pem", &other)] {
        desk.write(name, authority.pem());
    }
    let desk = desk.with("SSL_CERT_FILE", "other.pem");
    let stderr = desk.run("list").failed(4);
    assert!(stderr.contains("certificate"), "{stderr}");
    desk.with("SSL_CERT_FILE", "ours.pem")
        .run("list")
        .succeeded();
}
