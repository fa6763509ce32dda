//! A store that is removed, emptied, replaced or restored, before a start or while a node runs.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use test_support::process::Process;

use crate::bootstrap::run_svctok;
use crate::http1::HttpRequest;
use crate::node::{NODE_TIMEOUT, Node, NodeProcess, poll_interval, svctok};
use crate::readiness::wait_for_status_at;
use crate::store_fixture::StoreFixture;

/// The maximum age of the file check behind a lookup, plus the time that a cache adds.
const MAX_CHECK_AGE: Duration = Duration::from_millis(250);

pub(crate) fn database(fixture: &StoreFixture) -> PathBuf {
    fixture.folder.join("tokens.db")
}

fn marker(fixture: &StoreFixture) -> PathBuf {
    fixture.folder.join("tokens.db.initialized")
}

pub(crate) async fn create(node: &Node, administrator: &str, name: &str) -> String {
    let body = json!({ "name": name }).to_string();
    let create = HttpRequest::post("/service-tokens", &body).with_key(administrator);
    node.send(&create).await.assert(201).text("/token")
}

/// Returns whether the node accepts a token.
async fn accepts(node: &Node, token: &str) -> bool {
    let response = node
        .send(&HttpRequest::get("/verify").with_key(token))
        .await;
    assert!([200, 401].contains(&response.status), "{}", response.status);
    response.status == 200
}

/// Asserts that the start fails with this reason and a hint, and mints no token.
async fn assert_start_fails(fixture: &StoreFixture, reason: &str) {
    let output = NodeProcess::start(fixture, &[]).wait().await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains(reason), "{output:?}");
    assert!(output.stderr.contains("hint: "), "{output:?}");
    assert!(output.stderr.contains("--bootstrap"), "{output:?}");
    assert_eq!(output.stdout, "");
}

/// Runs SQL statements on the fixture's database.
async fn execute(fixture: &StoreFixture, statements: &str) {
    let statements = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
    if let Some(path) = fixture.store.strip_prefix("sqlite:") {
        let mut connection = SqliteConnection::connect(path).await.unwrap();
        statements.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    } else {
        let mut connection = PgConnection::connect(&fixture.store).await.unwrap();
        statements.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

const PURGE: &str = "DELETE FROM service_token_attributes; DELETE FROM service_tokens;";

pub(crate) async fn purged_store_requires_bootstrap(fixture: StoreFixture) {
    let (node, first) = Node::bootstrap(&fixture, &[]).await;
    node.stop().await;
    execute(&fixture, PURGE).await;
    for _ in 0..2 {
        assert_start_fails(&fixture, "the store is empty but was initialized before").await;
    }
    let (node, second) = Node::bootstrap(&fixture, &["--bootstrap"]).await;
    assert!(accepts(&node, &second).await);
    assert!(!accepts(&node, &first).await);
    node.stop().await;
    // An unnecessary `--bootstrap` is not an error.
    let node = Node::start(&fixture, &["--bootstrap"]).await;
    assert!(accepts(&node, &second).await);
    assert_eq!(node.stop().await.stdout, "");
}

pub(crate) async fn missing_database_is_not_recreated(fixture: StoreFixture) {
    let (node, first) = Node::bootstrap(&fixture, &[]).await;
    node.stop().await;
    let backup = fixture.folder.join("backup");
    fs::rename(database(&fixture), &backup).unwrap();
    assert_start_fails(&fixture, "tokens.db is missing").await;
    let create = [
        "--store",
        &fixture.store,
        "create",
        "--name",
        "ci",
        "-o",
        "token",
    ];
    let created = Process::spawn(svctok().args(create)).finish();
    assert!(!created.status.success());
    assert!(
        created.stderr.contains("tokens.db is missing"),
        "{}",
        created.stderr
    );
    assert!(!database(&fixture).exists());
    // Another database at the same path is rejected too, even if it is empty.
    let url = format!("{}2", fixture.store);
    run_svctok(&["--store", &url, "create", "--name", "other", "-o", "token"]);
    let other = fixture.folder.join("tokens.db2");
    fs::copy(&other, database(&fixture)).unwrap();
    assert_start_fails(&fixture, "database ID is ").await;
    execute(&fixture, PURGE).await;
    assert_start_fails(&fixture, "database ID is ").await;

    fs::rename(&backup, database(&fixture)).unwrap();
    let node = Node::start(&fixture, &[]).await;
    assert!(accepts(&node, &first).await);
    node.stop().await;

    fs::remove_file(database(&fixture)).unwrap();
    let (node, second) = Node::bootstrap(&fixture, &["--bootstrap"]).await;
    assert!(!accepts(&node, &first).await);
    node.stop().await;
    let node = Node::start(&fixture, &[]).await;
    assert!(accepts(&node, &second).await);
    node.stop().await;
}

pub(crate) async fn bootstrap_accepts_another_database_without_minting(fixture: StoreFixture) {
    Node::start(&fixture, &[]).await.stop().await;
    let url = format!("{}2", fixture.store);
    let other = run_svctok(&["--store", &url, "create", "--name", "other", "-o", "token"]);
    fs::rename(fixture.folder.join("tokens.db2"), database(&fixture)).unwrap();
    assert_start_fails(&fixture, "database ID is ").await;
    for flags in [&["--bootstrap"][..], &[]] {
        let node = Node::start(&fixture, flags).await;
        assert!(accepts(&node, other.trim()).await);
        let output = node.stop().await;
        assert_eq!(output.stdout, "");
        let is_logged = output.stderr.contains("using another database");
        assert_eq!(is_logged, !flags.is_empty(), "{}", output.stderr);
    }
}

pub(crate) async fn restored_backup_is_accepted(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    let early = create(&node, &token, "early").await;
    node.stop().await;
    let backup = fixture.folder.join("backup");
    fs::copy(database(&fixture), &backup).unwrap();
    let node = Node::start(&fixture, &[]).await;
    let late = create(&node, &token, "late").await;
    node.stop().await;
    fs::rename(&backup, database(&fixture)).unwrap();
    let node = Node::start(&fixture, &[]).await;
    assert!(accepts(&node, &early).await);
    assert!(!accepts(&node, &late).await);
    node.stop().await;
}

pub(crate) async fn version_1_database_is_marked_initialized(fixture: StoreFixture) {
    let version_1 = include_bytes!("../../sql/fixtures/4590bfc.db");
    fs::write(database(&fixture), version_1).unwrap();
    let output = Node::start(&fixture, &[]).await.stop().await;
    assert_eq!(output.stdout, "");
    let mode = std::os::unix::fs::PermissionsExt::mode;
    let marker = fs::metadata(marker(&fixture)).unwrap();
    assert_eq!(mode(&marker.permissions()) & 0o777, 0o600);
    fs::remove_file(database(&fixture)).unwrap();
    assert_start_fails(&fixture, "tokens.db is missing").await;
}

pub(crate) async fn empty_version_1_database_mints_a_token(fixture: StoreFixture) {
    let version_1 = include_bytes!("../../sql/fixtures/4590bfc.db");
    fs::write(database(&fixture), version_1).unwrap();
    execute(&fixture, PURGE).await;
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    assert!(accepts(&node, &token).await);
    node.stop().await;
}

/// Asserts that the node rejects changes, is not ready, and logs the reason once.
async fn assert_store_is_lost(mut node: Node, administrator: &str) {
    let create = HttpRequest::post("/service-tokens", r#"{"name":"lost"}"#);
    let create = create.with_key(administrator);
    node.send(&create).await.assert(503);
    tokio::time::sleep(MAX_CHECK_AGE).await;
    let started_at = Instant::now();
    while node.send(&HttpRequest::get("/readyz")).await.status != 503 {
        assert!(
            started_at.elapsed() < NODE_TIMEOUT,
            "the node is still ready"
        );
        poll_interval().await;
    }
    node.wait_for_log("was removed or replaced while it was open")
        .await;
    node.wait_for_log("change feed lost").await;
    node.send(&create).await.assert(503);
    let output = node.stop().await;
    for message in ["while it was open", "change feed lost"] {
        assert_eq!(
            output.stderr.matches(message).count(),
            1,
            "{}",
            output.stderr
        );
    }
}

pub(crate) async fn changes_fail_when_the_database_is_removed(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    create(&node, &token, "ci").await;
    fs::remove_file(database(&fixture)).unwrap();
    assert_store_is_lost(node, &token).await;
    assert!(!database(&fixture).exists());
}

pub(crate) async fn changes_fail_when_a_backup_is_moved_over_the_database(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    node.stop().await;
    let backup = fixture.folder.join("backup");
    fs::copy(database(&fixture), &backup).unwrap();
    let node = Node::start(&fixture, &[]).await;
    create(&node, &token, "ci").await;
    fs::rename(&backup, database(&fixture)).unwrap();
    assert_store_is_lost(node, &token).await;
}

/// A role that was set up for an earlier release has no rights on the state table.
pub(crate) async fn starts_without_rights_on_the_state_table_if_tokens_exist(
    fixture: StoreFixture,
) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    node.stop().await;
    let role = format!("svctok_restricted_{}", std::process::id());
    execute(
        &fixture,
        &format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'hush'; \
             GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; \
             GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}; \
             REVOKE ALL ON service_token_store FROM {role};"
        ),
    )
    .await;
    let mut restricted = fixture.clone();
    let (_, rest) = fixture.store.split_once('@').unwrap();
    restricted.store = format!("postgres://{role}:hush@{rest}");
    let node = Node::start(&restricted, &[]).await;
    create(&node, &token, "ci").await;
    node.send(&HttpRequest::get("/readyz?write"))
        .await
        .assert(200);
    let revoke = format!("REVOKE UPDATE ON service_tokens FROM {role}");
    execute(&fixture, &revoke).await;
    wait_for_status_at(&node, "/readyz?write", 503).await;
    execute(
        &fixture,
        &format!("GRANT UPDATE ON service_tokens TO {role}"),
    )
    .await;
    node.stop().await;
    execute(&fixture, PURGE).await;
    assert_start_fails(
        &restricted,
        "may not read whether it was initialized before",
    )
    .await;
    let (node, second) = Node::bootstrap(&restricted, &["--bootstrap"]).await;
    assert!(accepts(&node, &second).await);
    node.stop().await;
    execute(
        &fixture,
        &format!("DROP OWNED BY {role}; DROP ROLE {role};"),
    )
    .await;
}
