//! Conditions of changes: revisions, and the last administrator.

use serde_json::Value;

use crate::desk::{Desk, id_of};
use crate::site::Site;

const ADMIN: &[&str] = &["service-tokens:admin"];

fn desk_at(site: &Site, token: &str) -> Desk {
    Desk::bare()
        .with("SVCTOK_URL", site.url())
        .with("SVCTOK_TOKEN", token)
}

/// The revision that `svctok get` shows.
fn revision(desk: &Desk, id: &str) -> u64 {
    let shown = desk.run(&format!("get {id}")).succeeded();
    let revision = shown
        .lines()
        .find_map(|line| line.strip_prefix("REVISION    | "));
    revision.unwrap().parse().unwrap()
}

#[test]
fn ends_the_last_admin_only_if_confirmed() {
    for change in [
        "delete ID",
        "disable ID",
        "update ID --scopes projects:read",
        "update ID --expires-in 30d",
    ] {
        let site = Site::start();
        let admin = site.create(ADMIN, &[]);
        let store = Desk::new();
        let of_store = store.create("--name admin --scopes service-tokens:admin");
        for (desk, admin) in [(desk_at(&site, &admin), admin), (store, of_store)] {
            let words = change.replace("ID", &id_of(&admin));
            let stderr = desk.run(&words).failed(1);
            let error = "no other valid token may administer tokens";
            assert!(stderr.contains(error), "{words}: {stderr}");
            assert!(stderr.contains("confirm with --last-admin"), "{stderr}");
            assert_eq!(desk.run_with("verify", &admin).code, Some(0), "{words}");
            desk.run(&format!("{words} --last-admin")).succeeded();
        }
    }
}

#[test]
fn a_second_admin_needs_no_confirmation() {
    let site = Site::start();
    let admin = site.create(ADMIN, &[]);
    let other = id_of(&site.create(ADMIN, &[]));
    let desk = desk_at(&site, &admin);
    desk.run(&format!("disable {other}")).succeeded();
    desk.run(&format!("delete {other}")).succeeded();
}

#[test]
fn changes_a_token_only_at_the_revision() {
    let site = Site::start();
    let admin = site.create(ADMIN, &[]);
    let store = Desk::new();
    store.create("--name admin --scopes service-tokens:admin");
    for desk in [desk_at(&site, &admin), store] {
        let id = id_of(&desk.create("--name ci"));
        for change in [
            "update ID --name other",
            "rotate ID",
            "disable ID",
            "enable ID",
            "delete ID",
        ] {
            let words = change.replace("ID", &id);
            let current = revision(&desk, &id);
            let stderr = desk
                .run(&format!("{words} --if-revision {}", current + 1))
                .failed(1);
            let error = "the token was changed since it was read";
            assert!(stderr.contains(error), "{words}: {stderr}");
            let hint = "`svctok get` shows the current revision";
            assert!(stderr.contains(hint), "{words}: {stderr}");
            assert_eq!(revision(&desk, &id), current, "{words}");
            desk.run(&format!("{words} --if-revision {current}"))
                .succeeded();
            assert_eq!(revision(&desk, &id), current + 1, "{words}");
        }
    }
}

#[test]
fn json_and_yaml_include_the_revision() {
    let site = Site::start();
    let admin = site.create(ADMIN, &[]);
    for (desk, is_store) in [(desk_at(&site, &admin), false), (Desk::new(), true)] {
        let id = id_of(&desk.create("--name ci"));
        for (change, pointer) in [
            ("update ID --name other", "/revision"),
            ("rotate ID", "/service_token/revision"),
            ("disable ID", "/revision"),
            ("enable ID", "/revision"),
        ] {
            let current = desk.json(&format!("get {id}"))["revision"]
                .as_u64()
                .unwrap();
            let words = change.replace("ID", &id);
            let changed = desk.json(&format!("{words} --if-revision {current}"));
            // The response to a rotation has no ETag.
            let is_known = is_store || change != "rotate ID";
            let revision = changed.pointer(pointer).unwrap();
            let expected = is_known.then_some(current + 1);
            assert_eq!(revision, &Value::from(expected), "{change}");
        }
        let yaml = desk.run(&format!("get {id} -o yaml")).succeeded();
        assert!(yaml.ends_with("\nrevision: 5\n"), "{yaml}");
    }
}

#[test]
fn the_previous_secret_recovers_from_a_lost_rotation() {
    let site = Site::start();
    site.create(ADMIN, &[]);
    let secret = site.create(&["service-tokens:read", "service-tokens:write"], &[]);
    let id = id_of(&secret);
    let desk = desk_at(&site, &secret);
    desk.run(&format!("rotate {id} --grace 1h")).succeeded();

    let stderr = desk.run(&format!("rotate {id} --grace 1h")).failed(1);
    let hint = "hint: repeat with --if-revision and the revision that `svctok get self` shows";
    assert!(stderr.contains(hint), "{stderr}");
    let words = format!(
        "rotate {id} --if-revision {} -o token",
        revision(&desk, &id)
    );
    let recovered = desk.run(&words).succeeded();
    assert_eq!(desk.run_with("verify", &recovered).code, Some(0));
    assert_eq!(desk.run_with("verify", &secret).code, Some(1));
}
