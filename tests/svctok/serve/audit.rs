//! The audit trail of changes, in the store and in the log.

use std::time::Instant;

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use test_support::port::ReservedPort;
use test_support::process::Process;
use tower_service_token::audit::AuditEvent;
use tower_service_token::store::sql::{PostgresStore, SqliteStore};

use crate::http1::HttpRequest;
use crate::node::{NODE_TIMEOUT, Node, poll_interval, svctok};
use crate::store_fixture::StoreFixture;

/// Returns the audit events of a store, oldest first.
pub(crate) async fn trail(fixture: &StoreFixture) -> Vec<AuditEvent> {
    let mut events = if let Some(path) = fixture.store.strip_prefix("sqlite:") {
        let store = SqliteStore::open(path).await.unwrap();
        store.audit_trail(None, 1000).await.unwrap()
    } else {
        let store = PostgresStore::connect(&fixture.store).await.unwrap();
        store.audit_trail(None, 1000).await.unwrap()
    };
    events.reverse();
    events
}

fn actions(events: &[AuditEvent]) -> Vec<&'static str> {
    events.iter().map(|it| it.action().as_str()).collect()
}

/// Runs a command on the store, without a server.
fn run_on_store(fixture: &StoreFixture, args: &[&str]) -> String {
    let mut command = svctok();
    command.args(["--store", &fixture.store]).args(args);
    command.env("USER", "alice");
    Process::spawn(&mut command).finish().succeeded()
}

pub(crate) async fn changes_record_audit_events(fixture: StoreFixture) {
    let (node, administrator) = Node::bootstrap(&fixture, &[]).await;
    let create = HttpRequest::post("/service-tokens", r#"{"name":"ci"}"#).with_key(&administrator);
    let created = node.send(&create).await.assert(201);
    let id = created.text("/service_token/id");
    let delete = HttpRequest::new("DELETE", &format!("/service-tokens/{id}"));
    node.send(&delete.with_key(&administrator))
        .await
        .assert(204);
    node.stop().await;
    let events = trail(&fixture).await;
    assert_eq!(actions(&events), ["created", "created", "revoked"]);
    assert_eq!(events[0].actor(), "operator:svctok serve");
    assert_eq!(events[1].token_id().to_string(), id);
    assert!(events[1].actor().starts_with("token:"), "{events:?}");
}

pub(crate) async fn command_line_changes_record_audit_events(fixture: StoreFixture) {
    let token = run_on_store(&fixture, &["create", "--name", "ci", "-o", "token"]);
    let id = &token["svctok-".len()..][..10];
    run_on_store(&fixture, &["update", id, "--roles", "deployer"]);
    run_on_store(&fixture, &["disable", id]);
    run_on_store(&fixture, &["enable", id]);
    run_on_store(&fixture, &["rotate", id, "-o", "token"]);
    run_on_store(&fixture, &["delete", id]);
    let events = trail(&fixture).await;
    let expected = [
        "created", "updated", "disabled", "enabled", "rotated", "revoked",
    ];
    assert_eq!(actions(&events), expected);
    for event in &events {
        assert_eq!(
            (event.actor(), event.token_id().to_string()),
            ("operator:alice", id.to_owned())
        );
    }
}

pub(crate) async fn audit_trail_can_be_disabled(fixture: StoreFixture) {
    let (node, _) = Node::bootstrap(&fixture, &["--audit-retention", "off"]).await;
    node.stop().await;
    assert_eq!(trail(&fixture).await, []);
}

pub(crate) async fn audit_events_are_logged_at_every_level(fixture: StoreFixture) {
    let (node, administrator) = Node::bootstrap(&fixture, &[]).await;
    node.stop().await;
    let port = ReservedPort::new();
    for (level, is_logged) in [
        ("warn", true),
        ("error", true),
        ("off", true),
        ("tower_service_token=off", true),
        ("tower_service_token::audit=off,info", false),
    ] {
        let flags = ["--log-format", "json", "--log-level", level];
        let node = Node::start_at(&fixture, port.address(), &flags).await;
        let create = HttpRequest::post("/service-tokens", &format!(r#"{{"name":"{level}"}}"#));
        let create = create.with("x-request-id", "a").with_key(&administrator);
        let created = node.send(&create).await.assert(201);
        let log = node.stop().await.stderr;
        let audits = log
            .lines()
            .filter(|it| it.contains("tower_service_token::audit"));
        let audits: Vec<Value> = audits.map(|it| serde_json::from_str(it).unwrap()).collect();
        assert_eq!(audits.len(), usize::from(is_logged), "{level}: {log}");
        for audit in audits {
            assert_eq!(audit["token_id"], *created.text("/service_token/id"));
            if matches!(level, "warn" | "error") {
                assert_eq!(audit["span"]["request_id"], "a", "{level}: {log}");
            }
        }
    }
}

pub(crate) async fn events_older_than_the_retention_are_deleted(fixture: StoreFixture) {
    let (node, _) = Node::bootstrap(&fixture, &[]).await;
    node.stop().await;
    assert_eq!(trail(&fixture).await.len(), 1);
    let path = fixture.store.strip_prefix("sqlite:").unwrap();
    let options = SqliteConnectOptions::new().filename(path);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let age = "UPDATE service_token_events SET at = at - 2 * 86400 * 1000";
    let query = sqlx::raw_sql(AssertSqlSafe(age.to_owned()));
    query.execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();

    let node = Node::start(&fixture, &["--audit-retention", "3d"]).await;
    run_on_store(&fixture, &["create", "--name", "a", "-o", "token"]);
    node.stop().await;
    assert_eq!(trail(&fixture).await.len(), 2);
    let node = Node::start(&fixture, &["--audit-retention", "1d"]).await;
    let started_at = Instant::now();
    while trail(&fixture).await.len() > 1 {
        assert!(
            started_at.elapsed() < NODE_TIMEOUT,
            "the old event is not deleted"
        );
        poll_interval().await;
    }
    node.stop().await;
    let remaining = trail(&fixture).await;
    assert_eq!(remaining[0].actor(), "operator:alice");
}
