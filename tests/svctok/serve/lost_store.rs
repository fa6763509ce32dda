//! A store that is lost, emptied, replaced or restored, before a start and under a running node.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use test_support::process::Process;

use crate::bootstrap::says;
use crate::http1::HttpRequest;
use crate::node::{NODE_TIMEOUT, Node, NodeProcess, poll_interval, svctok};
use crate::readiness::becomes_at;
use crate::store_fixture::StoreFixture;

/// How old the check behind a lookup may be, and the time that a cache adds.
const BOUND: Duration = Duration::from_millis(250);

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

async fn is_known(node: &Node, token: &str) -> bool {
    let answer = node
        .send(&HttpRequest::get("/verify").with_key(token))
        .await;
    assert!([200, 401].contains(&answer.status), "{}", answer.status);
    answer.status == 200
}

/// The start fails with a reason and a hint, and mints nothing.
async fn refuses_to_start(fixture: &StoreFixture, why: &str) {
    let ended = NodeProcess::start(fixture, &[]).wait().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(why), "{ended:?}");
    assert!(ended.stderr.contains("hint: "), "{ended:?}");
    assert!(ended.stderr.contains("--bootstrap"), "{ended:?}");
    assert_eq!(ended.stdout, "");
}

/// Runs statements on the place's database.
async fn run(fixture: &StoreFixture, statements: &str) {
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
    run(&fixture, PURGE).await;
    for _ in 0..2 {
        refuses_to_start(&fixture, "the store is empty but was initialized before").await;
    }
    let (node, second) = Node::bootstrap(&fixture, &["--bootstrap"]).await;
    assert!(is_known(&node, &second).await);
    assert!(!is_known(&node, &first).await);
    node.stop().await;
    // An unnecessary confirmation is not an error.
    let node = Node::start(&fixture, &["--bootstrap"]).await;
    assert!(is_known(&node, &second).await);
    assert_eq!(node.stop().await.stdout, "");
}

pub(crate) async fn missing_database_is_not_recreated(fixture: StoreFixture) {
    let (node, first) = Node::bootstrap(&fixture, &[]).await;
    node.stop().await;
    let aside = fixture.folder.join("aside");
    fs::rename(database(&fixture), &aside).unwrap();
    refuses_to_start(&fixture, "tokens.db is missing").await;
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
    // The same if another tool has created an empty database meanwhile.
    let url = format!("{}2", fixture.store);
    says(&["--store", &url, "create", "--name", "other", "-o", "token"]);
    let other = fixture.folder.join("tokens.db2");
    fs::copy(&other, database(&fixture)).unwrap();
    refuses_to_start(&fixture, "database ID is ").await;
    run(&fixture, PURGE).await;
    refuses_to_start(&fixture, "database ID is ").await;

    fs::rename(&aside, database(&fixture)).unwrap();
    let node = Node::start(&fixture, &[]).await;
    assert!(is_known(&node, &first).await);
    node.stop().await;

    fs::remove_file(database(&fixture)).unwrap();
    let (node, second) = Node::bootstrap(&fixture, &["--bootstrap"]).await;
    assert!(!is_known(&node, &first).await);
    node.stop().await;
    let node = Node::start(&fixture, &[]).await;
    assert!(is_known(&node, &second).await);
    node.stop().await;
}

pub(crate) async fn bootstrap_accepts_another_database_without_minting(fixture: StoreFixture) {
    Node::start(&fixture, &[]).await.stop().await;
    let url = format!("{}2", fixture.store);
    let other = says(&["--store", &url, "create", "--name", "other", "-o", "token"]);
    fs::rename(fixture.folder.join("tokens.db2"), database(&fixture)).unwrap();
    refuses_to_start(&fixture, "database ID is ").await;
    for more in [&["--bootstrap"][..], &[]] {
        let node = Node::start(&fixture, more).await;
        assert!(is_known(&node, other.trim()).await);
        let ended = node.stop().await;
        assert_eq!(ended.stdout, "");
        let is_logged = ended.stderr.contains("using another database");
        assert_eq!(is_logged, !more.is_empty(), "{}", ended.stderr);
    }
}

pub(crate) async fn restored_backup_is_the_same_store(fixture: StoreFixture) {
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
    assert!(is_known(&node, &early).await);
    assert!(!is_known(&node, &late).await);
    node.stop().await;
}

pub(crate) async fn version_1_database_is_marked_initialized(fixture: StoreFixture) {
    let version_1 = include_bytes!("../../sql/fixtures/4590bfc.db");
    fs::write(database(&fixture), version_1).unwrap();
    let ended = Node::start(&fixture, &[]).await.stop().await;
    assert_eq!(ended.stdout, "");
    let mode = std::os::unix::fs::PermissionsExt::mode;
    let marker = fs::metadata(marker(&fixture)).unwrap();
    assert_eq!(mode(&marker.permissions()) & 0o777, 0o600);
    fs::remove_file(database(&fixture)).unwrap();
    refuses_to_start(&fixture, "tokens.db is missing").await;
}

pub(crate) async fn empty_version_1_database_is_new(fixture: StoreFixture) {
    let version_1 = include_bytes!("../../sql/fixtures/4590bfc.db");
    fs::write(database(&fixture), version_1).unwrap();
    run(&fixture, PURGE).await;
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    assert!(is_known(&node, &token).await);
    node.stop().await;
}

/// Changes and lookups are rejected; the log has one line about it.
async fn fails(mut node: Node, administrator: &str) {
    let create = HttpRequest::post("/service-tokens", r#"{"name":"lost"}"#);
    let create = create.with_key(administrator);
    node.send(&create).await.assert(503);
    tokio::time::sleep(BOUND).await;
    let begun = Instant::now();
    while node.send(&HttpRequest::get("/readyz")).await.status != 503 {
        assert!(begun.elapsed() < NODE_TIMEOUT, "still ready");
        poll_interval().await;
    }
    node.wait_for_log("was removed or replaced while it was open")
        .await;
    node.wait_for_log("change feed lost").await;
    node.send(&create).await.assert(503);
    let ended = node.stop().await;
    for said in ["while it was open", "change feed lost"] {
        assert_eq!(ended.stderr.matches(said).count(), 1, "{}", ended.stderr);
    }
}

pub(crate) async fn changes_fail_when_the_database_is_removed(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    create(&node, &token, "kept").await;
    fs::remove_file(database(&fixture)).unwrap();
    fails(node, &token).await;
    assert!(!database(&fixture).exists());
}

pub(crate) async fn changes_fail_when_a_backup_is_moved_over_the_database(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    node.stop().await;
    let backup = fixture.folder.join("backup");
    fs::copy(database(&fixture), &backup).unwrap();
    let node = Node::start(&fixture, &[]).await;
    create(&node, &token, "kept").await;
    fs::rename(&backup, database(&fixture)).unwrap();
    fails(node, &token).await;
}

/// Without rights on the record of the store, as a role has that was made for an earlier release.
pub(crate) async fn starts_without_rights_on_the_state_table_if_tokens_exist(
    fixture: StoreFixture,
) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    node.stop().await;
    let role = format!("svctok_narrow_{}", std::process::id());
    run(
        &fixture,
        &format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'hush'; \
             GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; \
             GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}; \
             REVOKE ALL ON service_token_store FROM {role};"
        ),
    )
    .await;
    let mut narrow = fixture.clone();
    let (_, rest) = fixture.store.split_once('@').unwrap();
    narrow.store = format!("postgres://{role}:hush@{rest}");
    let node = Node::start(&narrow, &[]).await;
    create(&node, &token, "ci").await;
    node.send(&HttpRequest::get("/readyz?write"))
        .await
        .assert(200);
    let revoke = format!("REVOKE UPDATE ON service_tokens FROM {role}");
    run(&fixture, &revoke).await;
    becomes_at(&node, "/readyz?write", 503).await;
    run(
        &fixture,
        &format!("GRANT UPDATE ON service_tokens TO {role}"),
    )
    .await;
    node.stop().await;
    run(&fixture, PURGE).await;
    refuses_to_start(&narrow, "may not read whether it was initialized before").await;
    let (node, second) = Node::bootstrap(&narrow, &["--bootstrap"]).await;
    assert!(is_known(&node, &second).await);
    node.stop().await;
    run(
        &fixture,
        &format!("DROP OWNED BY {role}; DROP ROLE {role};"),
    )
    .await;
}
