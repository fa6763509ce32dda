//! Conditions for changes: revisions, and the last administrator.

use serde_json::Value;

use crate::sandbox::{Sandbox, id_of};
use crate::test_server::TestServer;

const ADMIN: &[&str] = &["service-tokens:admin"];

fn sandbox_for(test_server: &TestServer, token: &str) -> Sandbox {
    Sandbox::without_store()
        .with("SVCTOK_URL", test_server.url())
        .with("SVCTOK_TOKEN", token)
}

/// Returns the revision that `svctok get` shows.
fn revision(sandbox: &Sandbox, id: &str) -> u64 {
    let shown = sandbox.run(&format!("get {id}")).succeeded();
    let revision = shown
        .lines()
        .find_map(|line| line.strip_prefix("REVISION    | "));
    revision.unwrap().parse().unwrap()
}

#[test]
fn removes_the_last_admin_only_if_confirmed() {
    for change in [
        "delete ID",
        "disable ID",
        "update ID --scopes projects:read",
        "update ID --expires-in 30d",
    ] {
        let test_server = TestServer::start();
        let admin = test_server.create(ADMIN, &[]);
        let store = Sandbox::new();
        let store_admin = store.create("--name admin --scopes service-tokens:admin");
        for (sandbox, admin) in [
            (sandbox_for(&test_server, &admin), admin),
            (store, store_admin),
        ] {
            let words = change.replace("ID", &id_of(&admin));
            let stderr = sandbox.run(&words).failed(1);
            let error = "no other valid token may administer tokens";
            assert!(stderr.contains(error), "{words}: {stderr}");
            assert!(stderr.contains("confirm with --last-admin"), "{stderr}");
            assert_eq!(sandbox.run_with("verify", &admin).code, Some(0), "{words}");
            sandbox.run(&format!("{words} --last-admin")).succeeded();
        }
    }
}

#[test]
fn removing_one_of_two_admins_needs_no_confirmation() {
    let test_server = TestServer::start();
    let admin = test_server.create(ADMIN, &[]);
    let other = id_of(&test_server.create(ADMIN, &[]));
    let sandbox = sandbox_for(&test_server, &admin);
    sandbox.run(&format!("disable {other}")).succeeded();
    sandbox.run(&format!("delete {other}")).succeeded();
}

#[test]
fn if_revision_rejects_other_revisions() {
    let test_server = TestServer::start();
    let admin = test_server.create(ADMIN, &[]);
    let store = Sandbox::new();
    store.create("--name admin --scopes service-tokens:admin");
    for sandbox in [sandbox_for(&test_server, &admin), store] {
        let id = id_of(&sandbox.create("--name ci"));
        for change in [
            "update ID --name other",
            "rotate ID",
            "disable ID",
            "enable ID",
            "delete ID",
        ] {
            let words = change.replace("ID", &id);
            let current = revision(&sandbox, &id);
            let stderr = sandbox
                .run(&format!("{words} --if-revision {}", current + 1))
                .failed(1);
            let error = "the token was changed since it was read";
            assert!(stderr.contains(error), "{words}: {stderr}");
            let hint = "`svctok get` shows the current revision";
            assert!(stderr.contains(hint), "{words}: {stderr}");
            assert_eq!(revision(&sandbox, &id), current, "{words}");
            sandbox
                .run(&format!("{words} --if-revision {current}"))
                .succeeded();
            assert_eq!(revision(&sandbox, &id), current + 1, "{words}");
        }
    }
}

#[test]
fn json_and_yaml_include_the_revision() {
    let test_server = TestServer::start();
    let admin = test_server.create(ADMIN, &[]);
    for sandbox in [sandbox_for(&test_server, &admin), Sandbox::new()] {
        let id = id_of(&sandbox.create("--name ci"));
        for (change, pointer) in [
            ("update ID --name other", "/revision"),
            ("rotate ID", "/service_token/revision"),
            ("disable ID", "/revision"),
            ("enable ID", "/revision"),
        ] {
            let current = sandbox.json(&format!("get {id}"))["revision"]
                .as_u64()
                .unwrap();
            let words = change.replace("ID", &id);
            let changed = sandbox.json(&format!("{words} --if-revision {current}"));
            let revision = changed.pointer(pointer).unwrap();
            assert_eq!(revision, &Value::from(current + 1), "{change}");
        }
        let yaml = sandbox.run(&format!("get {id} -o yaml")).succeeded();
        assert!(yaml.ends_with("\nrevision: 5\n"), "{yaml}");
    }
}

#[test]
fn previous_secret_can_rotate_again() {
    let test_server = TestServer::start();
    test_server.create(ADMIN, &[]);
    let secret = test_server.create(&["service-tokens:read", "service-tokens:write"], &[]);
    let id = id_of(&secret);
    let sandbox = sandbox_for(&test_server, &secret);
    sandbox.run(&format!("rotate {id} --grace 1h")).succeeded();

    let stderr = sandbox.run(&format!("rotate {id} --grace 1h")).failed(1);
    let hint = "hint: repeat with --if-revision and the revision that `svctok get self` shows";
    assert!(stderr.contains(hint), "{stderr}");
    let words = format!(
        "rotate {id} --if-revision {} -o token",
        revision(&sandbox, &id)
    );
    let recovered = sandbox.run(&words).succeeded();
    assert_eq!(sandbox.run_with("verify", &recovered).code, Some(0));
    assert_eq!(sandbox.run_with("verify", &secret).code, Some(1));
}
