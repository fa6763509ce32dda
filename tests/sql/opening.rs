//! Opening a store: its tables, its file, and its errors.

use std::error::Error;
use std::fs;

use tokio::task::JoinSet;
use tower_service_token::ServiceTokens;
use tower_service_token::lifecycle::{LifecycleError, NewToken};
use tower_service_token::registry::TokenRegistry;
use tower_service_token::store::sql::{OpenStoreErrorKind, PostgresStore, SqliteStore};

use crate::database::{TestDatabase, minted, write};

const VERSIONS: &str = "SELECT COUNT(*) FROM service_token_schema WHERE version = 4";

pub(crate) async fn reopening_finds_stored_tokens(database: TestDatabase) {
    let record = minted();
    database.open().await.insert(&write(&record)).await.unwrap();
    for _ in 0..2 {
        let store = database.open().await;
        assert!(store.get(record.id()).await.unwrap().is_some());
    }
    let pool = database.pool(1).await;
    assert_eq!(pool.number(VERSIONS).await, 1);
    assert_eq!(
        pool.number("SELECT COUNT(*) FROM service_token_schema")
            .await,
        1
    );
}

pub(crate) async fn idempotency_keys_survive_a_restart(database: TestDatabase) {
    let new_token = || NewToken::new("ci").with_idempotency_key("8e03978e");
    let tokens = async || ServiceTokens::new(database.registry().await);
    let issued = tokens().await.create(new_token()).await.unwrap();
    match tokens().await.create(new_token()).await {
        Err(LifecycleError::AlreadyCreated(record)) => {
            assert_eq!(record.digest(), issued.record().digest());
        }
        outcome => panic!("{outcome:?}"),
    }
}

pub(crate) async fn concurrent_opens_create_the_tables_once(database: TestDatabase) {
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let database = database.clone();
        tasks.spawn(async move {
            let store = database.open().await;
            store.insert(&write(&minted())).await.unwrap();
        });
    }
    tasks.join_all().await;
    let pool = database.pool(1).await;
    assert_eq!(pool.number(VERSIONS).await, 1);
    assert_eq!(pool.number("SELECT COUNT(*) FROM service_tokens").await, 6);
}

/// SQLite itself does not wait for the lock that creates the write-ahead log of a new file.
pub(crate) async fn concurrent_opens_of_new_files_wait_for_each_other(database: TestDatabase) {
    for round in 0..40 {
        let file = database.file().with_file_name(format!("{round}.db"));
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let file = file.clone();
            tasks.spawn(async move { SqliteStore::open(file).await.map(drop) });
        }
        let opened = tasks.join_all().await;
        assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    }
}

pub(crate) async fn rejects_tables_of_a_newer_release(database: TestDatabase) {
    let record = minted();
    database.open().await.insert(&write(&record)).await.unwrap();
    database
        .run("UPDATE service_token_schema SET version = 5")
        .await;
    let error = database.try_open().await.err().expect("an error");
    assert_eq!(error.kind(), OpenStoreErrorKind::NewerSchema);
    let source = error.source().unwrap().to_string();
    assert_eq!(source, "the tables have version 5, this release knows 4");
    let pool = database.pool(1).await;
    assert_eq!(
        pool.number("SELECT version FROM service_token_schema")
            .await,
        5
    );
    assert_eq!(pool.number("SELECT COUNT(*) FROM service_tokens").await, 1);
}

pub(crate) async fn uses_the_pool_of_the_application(database: TestDatabase) {
    let pool = database.pool(3).await;
    let store = pool.store().await;
    let record = minted().with_name("yours");
    store.insert(&write(&record)).await.unwrap();
    let found = store.find_by_digest(record.digest()).await.unwrap();
    assert_eq!(found.unwrap().name(), "yours");
    assert_eq!(pool.number("SELECT COUNT(*) FROM service_tokens").await, 1);
    // A pool without connections is an error.
    pool.close().await;
    assert!(store.get(record.id()).await.is_err());
}

pub(crate) async fn files_are_accessible_to_their_owner_only(database: TestDatabase) {
    use std::os::unix::fs::PermissionsExt;
    let store = database.open().await;
    store.insert(&write(&minted())).await.unwrap();
    let mut names = Vec::new();
    for entry in fs::read_dir(database.file().parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort_unstable();
    assert_eq!(names, ["tokens.db", "tokens.db-shm", "tokens.db-wal"]);
}

pub(crate) async fn distinguishes_missing_folders_from_invalid_files(database: TestDatabase) {
    let missing = database.file().join("tokens.db");
    let error = SqliteStore::open(&missing).await.err().unwrap();
    assert_eq!(error.kind(), OpenStoreErrorKind::Configuration);
    fs::write(
        database.file(),
        "this is not a database, but as long as one".repeat(50),
    )
    .unwrap();
    let error = SqliteStore::open(database.file()).await.err().unwrap();
    assert_eq!(error.kind(), OpenStoreErrorKind::Rejected);
}

pub(crate) async fn in_memory_stores_are_independent(_: TestDatabase) {
    let store = SqliteStore::in_memory().await.unwrap();
    let other = SqliteStore::in_memory().await.unwrap();
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    let clone = store.clone();
    assert!(clone.get(record.id()).await.unwrap().is_some());
    assert!(other.get(record.id()).await.unwrap().is_none());
    assert!(store.effective_within().is_zero());
}

pub(crate) async fn errors_do_not_contain_the_password(_: TestDatabase) {
    for (url, kind) in [
        (
            "postgres://me:hunter2@127.0.0.1:1/x",
            OpenStoreErrorKind::Unavailable,
        ),
        (
            "postgres://me:hunter2@127.0.0.1:hunter2/x",
            OpenStoreErrorKind::Configuration,
        ),
        ("hunter2", OpenStoreErrorKind::Configuration),
        (
            "postgres://me@127.0.0.1/x?sslmode=hunter2",
            OpenStoreErrorKind::Configuration,
        ),
    ] {
        let error = PostgresStore::connect(url).await.err().unwrap();
        assert_eq!(error.kind(), kind, "{url}: {error:?}");
        let text = format!("{error:?} {error} {:?}", error.source());
        assert!(!text.contains("hunter2"), "{text}");
    }
}
