//! A store that is lost, emptied, replaced or restored, before a start and under a running node.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use crate::bootstrap::says;
use crate::node::{Node, PATIENCE, Running, pause, svctok};
use crate::place::Place;
use crate::process::Process;
use crate::readiness::becomes_at;
use crate::wire::Call;

/// How old the answer may be that lookups go by, and what a cache adds to it.
const BOUND: Duration = Duration::from_millis(250);

pub(crate) fn database(place: &Place) -> PathBuf {
    place.folder.join("tokens.db")
}

fn marker(place: &Place) -> PathBuf {
    place.folder.join("tokens.db.initialized")
}

pub(crate) async fn create(node: &Node, administrator: &str, name: &str) -> String {
    let body = json!({ "name": name }).to_string();
    let create = Call::post("/service-tokens", &body).with_key(administrator);
    node.send(&create).await.assert(201).text("/token")
}

async fn is_known(node: &Node, token: &str) -> bool {
    let answer = node.send(&Call::get("/verify").with_key(token)).await;
    assert!([204, 401].contains(&answer.status), "{}", answer.status);
    answer.status == 204
}

/// The start fails, says why and what to do, and mints nothing.
async fn refuses_to_start(place: &Place, why: &str) {
    let ended = Running::start(place, &[]).ended().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(why), "{ended:?}");
    assert!(ended.stderr.contains("hint: "), "{ended:?}");
    assert!(ended.stderr.contains("--bootstrap"), "{ended:?}");
    assert_eq!(ended.stdout, "");
}

/// Runs statements on the place's database.
async fn run(place: &Place, statements: &str) {
    let statements = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
    if let Some(path) = place.store.strip_prefix("sqlite:") {
        let mut connection = SqliteConnection::connect(path).await.unwrap();
        statements.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    } else {
        let mut connection = PgConnection::connect(&place.store).await.unwrap();
        statements.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

const PURGE: &str = "DELETE FROM service_token_attributes; DELETE FROM service_tokens;";

pub(crate) async fn a_purged_store_gets_an_administrator_only_by_bootstrap(place: Place) {
    let (node, first) = Node::administrator(&place, &[]).await;
    node.stop().await;
    run(&place, PURGE).await;
    for _ in 0..2 {
        refuses_to_start(&place, "the store is empty but was initialized before").await;
    }
    let (node, second) = Node::administrator(&place, &["--bootstrap"]).await;
    assert!(is_known(&node, &second).await);
    assert!(!is_known(&node, &first).await);
    node.stop().await;
    // It is no mistake to confirm what need not be.
    let node = Node::start(&place, &["--bootstrap"]).await;
    assert!(is_known(&node, &second).await);
    assert_eq!(node.stop().await.stdout, "");
}

pub(crate) async fn a_missing_database_is_not_replaced_by_an_empty_one(place: Place) {
    let (node, first) = Node::administrator(&place, &[]).await;
    node.stop().await;
    let aside = place.folder.join("aside");
    fs::rename(database(&place), &aside).unwrap();
    refuses_to_start(&place, "tokens.db is missing").await;
    let create = [
        "--store",
        &place.store,
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
    assert!(!database(&place).exists());
    // Nor where another tool has made an empty one meanwhile.
    let url = format!("{}2", place.store);
    says(&["--store", &url, "create", "--name", "other", "-o", "token"]);
    let other = place.folder.join("tokens.db2");
    fs::copy(&other, database(&place)).unwrap();
    refuses_to_start(&place, "database ID is ").await;
    run(&place, PURGE).await;
    refuses_to_start(&place, "database ID is ").await;

    fs::rename(&aside, database(&place)).unwrap();
    let node = Node::start(&place, &[]).await;
    assert!(is_known(&node, &first).await);
    node.stop().await;

    fs::remove_file(database(&place)).unwrap();
    let (node, second) = Node::administrator(&place, &["--bootstrap"]).await;
    assert!(!is_known(&node, &first).await);
    node.stop().await;
    let node = Node::start(&place, &[]).await;
    assert!(is_known(&node, &second).await);
    node.stop().await;
}

pub(crate) async fn another_database_is_accepted_by_bootstrap_and_mints_nothing(place: Place) {
    Node::start(&place, &[]).await.stop().await;
    let url = format!("{}2", place.store);
    let other = says(&["--store", &url, "create", "--name", "other", "-o", "token"]);
    fs::rename(place.folder.join("tokens.db2"), database(&place)).unwrap();
    refuses_to_start(&place, "database ID is ").await;
    for more in [&["--bootstrap"][..], &[]] {
        let node = Node::start(&place, more).await;
        assert!(is_known(&node, other.trim()).await);
        let ended = node.stop().await;
        assert_eq!(ended.stdout, "");
        let is_logged = ended.stderr.contains("using another database");
        assert_eq!(is_logged, !more.is_empty(), "{}", ended.stderr);
    }
}

pub(crate) async fn a_restored_backup_is_the_same_store(place: Place) {
    let (node, token) = Node::administrator(&place, &[]).await;
    let early = create(&node, &token, "early").await;
    node.stop().await;
    let backup = place.folder.join("backup");
    fs::copy(database(&place), &backup).unwrap();
    let node = Node::start(&place, &[]).await;
    let late = create(&node, &token, "late").await;
    node.stop().await;
    fs::rename(&backup, database(&place)).unwrap();
    let node = Node::start(&place, &[]).await;
    assert!(is_known(&node, &early).await);
    assert!(!is_known(&node, &late).await);
    node.stop().await;
}

pub(crate) async fn a_database_of_version_1_is_marked_at_the_first_start(place: Place) {
    let version_1 = include_bytes!("../sql/fixtures/4590bfc.db");
    fs::write(database(&place), version_1).unwrap();
    let ended = Node::start(&place, &[]).await.stop().await;
    assert_eq!(ended.stdout, "");
    let mode = std::os::unix::fs::PermissionsExt::mode;
    let marker = fs::metadata(marker(&place)).unwrap();
    assert_eq!(mode(&marker.permissions()) & 0o777, 0o600);
    fs::remove_file(database(&place)).unwrap();
    refuses_to_start(&place, "tokens.db is missing").await;
}

pub(crate) async fn an_empty_database_of_version_1_is_new(place: Place) {
    let version_1 = include_bytes!("../sql/fixtures/4590bfc.db");
    fs::write(database(&place), version_1).unwrap();
    run(&place, PURGE).await;
    let (node, token) = Node::administrator(&place, &[]).await;
    assert!(is_known(&node, &token).await);
    node.stop().await;
}

/// Changes are refused, and so are lookups; the log says so once.
async fn fails(mut node: Node, administrator: &str) {
    let create = Call::post("/service-tokens", r#"{"name":"lost"}"#);
    let create = create.with_key(administrator);
    node.send(&create).await.assert(503);
    tokio::time::sleep(BOUND).await;
    let begun = Instant::now();
    while node.send(&Call::get("/readyz")).await.status != 503 {
        assert!(begun.elapsed() < PATIENCE, "still ready");
        pause().await;
    }
    node.logged("was removed or replaced while it was open")
        .await;
    node.logged("change feed lost").await;
    node.send(&create).await.assert(503);
    let ended = node.stop().await;
    for said in ["while it was open", "change feed lost"] {
        assert_eq!(ended.stderr.matches(said).count(), 1, "{}", ended.stderr);
    }
}

pub(crate) async fn changes_fail_when_the_database_is_removed(place: Place) {
    let (node, token) = Node::administrator(&place, &[]).await;
    create(&node, &token, "kept").await;
    fs::remove_file(database(&place)).unwrap();
    fails(node, &token).await;
    assert!(!database(&place).exists());
}

pub(crate) async fn changes_fail_when_a_backup_is_moved_over_the_database(place: Place) {
    let (node, token) = Node::administrator(&place, &[]).await;
    node.stop().await;
    let backup = place.folder.join("backup");
    fs::copy(database(&place), &backup).unwrap();
    let node = Node::start(&place, &[]).await;
    create(&node, &token, "kept").await;
    fs::rename(&backup, database(&place)).unwrap();
    fails(node, &token).await;
}

/// Without rights on the record of the store, as a role has that was made for an earlier release.
pub(crate) async fn a_role_without_rights_on_the_state_starts_on_a_store_with_tokens(place: Place) {
    let (node, token) = Node::administrator(&place, &[]).await;
    node.stop().await;
    let role = format!("svctok_narrow_{}", std::process::id());
    run(
        &place,
        &format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'hush'; \
             GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; \
             GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}; \
             REVOKE ALL ON service_token_store FROM {role};"
        ),
    )
    .await;
    let mut narrow = place.clone();
    let (_, rest) = place.store.split_once('@').unwrap();
    narrow.store = format!("postgres://{role}:hush@{rest}");
    let node = Node::start(&narrow, &[]).await;
    create(&node, &token, "ci").await;
    node.send(&Call::get("/readyz?write")).await.assert(200);
    let revoke = format!("REVOKE UPDATE ON service_tokens FROM {role}");
    run(&place, &revoke).await;
    becomes_at(&node, "/readyz?write", 503).await;
    run(&place, &format!("GRANT UPDATE ON service_tokens TO {role}")).await;
    node.stop().await;
    run(&place, PURGE).await;
    refuses_to_start(&narrow, "may not read whether it was initialized before").await;
    let (node, second) = Node::administrator(&narrow, &["--bootstrap"]).await;
    assert!(is_known(&node, &second).await);
    node.stop().await;
    run(&place, &format!("DROP OWNED BY {role}; DROP ROLE {role};")).await;
}
