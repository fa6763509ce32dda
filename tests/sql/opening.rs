//! Opening a store: its tables, its file, and what is said when it cannot be opened.

use std::error::Error;
use std::fs;

use tokio::task::JoinSet;
use tower_service_token::ServiceTokens;
use tower_service_token::lifecycle::{LifecycleError, NewToken};
use tower_service_token::store::{OpenStoreErrorKind, PostgresStore, SqliteStore, TokenRegistry};

use crate::place::{Place, minted, write};

const VERSIONS: &str = "SELECT COUNT(*) FROM service_token_schema WHERE version = 2";

pub(crate) async fn opening_again_finds_what_was_kept(place: Place) {
    let record = minted();
    place.open().await.insert(&write(&record)).await.unwrap();
    for _ in 0..2 {
        let store = place.open().await;
        assert!(store.get(record.id()).await.unwrap().is_some());
    }
    let pool = place.pool(1).await;
    assert_eq!(pool.number(VERSIONS).await, 1);
    assert_eq!(
        pool.number("SELECT COUNT(*) FROM service_token_schema")
            .await,
        1
    );
}

pub(crate) async fn an_idempotency_key_outlives_the_process(place: Place) {
    let wanted = || NewToken::new("ci").with_idempotency_key("8e03978e");
    let tokens = async || ServiceTokens::new(place.registry().await);
    let issued = tokens().await.create(wanted()).await.unwrap();
    match tokens().await.create(wanted()).await {
        Err(LifecycleError::AlreadyCreated(record)) => {
            assert_eq!(record.digest(), issued.record().digest());
        }
        answer => panic!("{answer:?}"),
    }
}

pub(crate) async fn many_open_an_empty_database_at_once(place: Place) {
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let place = place.clone();
        tasks.spawn(async move {
            let store = place.open().await;
            store.insert(&write(&minted())).await.unwrap();
        });
    }
    tasks.join_all().await;
    let pool = place.pool(1).await;
    assert_eq!(pool.number(VERSIONS).await, 1);
    assert_eq!(pool.number("SELECT COUNT(*) FROM service_tokens").await, 6);
}

pub(crate) async fn tables_of_a_newer_release_are_refused(place: Place) {
    let record = minted();
    place.open().await.insert(&write(&record)).await.unwrap();
    place
        .run("UPDATE service_token_schema SET version = 3")
        .await;
    let error = place.try_open().await.err().expect("refused");
    assert_eq!(error.kind(), OpenStoreErrorKind::NewerSchema);
    let source = error.source().unwrap().to_string();
    assert_eq!(source, "the tables have version 3, this release knows 2");
    let pool = place.pool(1).await;
    assert_eq!(
        pool.number("SELECT version FROM service_token_schema")
            .await,
        3
    );
    assert_eq!(pool.number("SELECT COUNT(*) FROM service_tokens").await, 1);
}

pub(crate) async fn your_own_pool_is_used(place: Place) {
    let pool = place.pool(3).await;
    let store = pool.store().await;
    let record = minted().with_name("yours");
    store.insert(&write(&record)).await.unwrap();
    let found = store.find_by_digest(record.digest()).await.unwrap();
    assert_eq!(found.unwrap().name(), "yours");
    assert_eq!(pool.number("SELECT COUNT(*) FROM service_tokens").await, 1);
    // And without connections in it, there is no store.
    pool.close().await;
    assert!(store.get(record.id()).await.is_err());
}

pub(crate) async fn the_files_are_for_their_owner_alone(place: Place) {
    use std::os::unix::fs::PermissionsExt;
    let store = place.open().await;
    store.insert(&write(&minted())).await.unwrap();
    let mut seen = Vec::new();
    for entry in fs::read_dir(place.file().parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
        seen.push(entry.file_name().into_string().unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, ["tokens.db", "tokens.db-shm", "tokens.db-wal"]);
}

pub(crate) async fn a_path_that_cannot_be_is_told_from_a_file_that_is_no_database(place: Place) {
    let missing = place.file().join("tokens.db");
    let error = SqliteStore::open(&missing).await.err().unwrap();
    assert_eq!(error.kind(), OpenStoreErrorKind::Configuration);
    fs::write(
        place.file(),
        "this is no database, but long enough to be one".repeat(50),
    )
    .unwrap();
    let error = SqliteStore::open(place.file()).await.err().unwrap();
    assert_eq!(error.kind(), OpenStoreErrorKind::Refused);
}

pub(crate) async fn a_store_in_memory_works_and_is_gone_with_it(_: Place) {
    let store = SqliteStore::in_memory().await.unwrap();
    let other = SqliteStore::in_memory().await.unwrap();
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    let clone = store.clone();
    assert!(clone.get(record.id()).await.unwrap().is_some());
    assert!(other.get(record.id()).await.unwrap().is_none());
    assert!(store.effective_within().is_zero());
}

pub(crate) async fn no_error_tells_the_password(_: Place) {
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
        let told = format!("{error:?} {error} {:?}", error.source());
        assert!(!told.contains("hunter2"), "{told}");
    }
}
