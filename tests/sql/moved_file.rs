//! A database file that is removed or replaced while a store has it open.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tower_service_token::registry::{RegistryError, TokenRegistry};
use tower_service_token::store::sql::SqliteStore;
use tower_service_token::store::{FeedStatus, StoreError, StoreErrorKind};

use crate::database::{Changes, Store, TestDatabase, TestPool, at, minted, write};

const TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum age of the file check behind a lookup.
const MAX_CHECK_AGE: Duration = Duration::from_millis(250);

fn assert_file_lost(error: &StoreError) {
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let source = std::error::Error::source(error).unwrap().to_string();
    assert!(source.contains("was removed or replaced"), "{source}");
}

/// Asserts that changes fail immediately, and lookups after the maximum age of the check.
async fn assert_lost(store: &Store) {
    let record = minted();
    match store.insert(&write(&record)).await {
        Err(RegistryError::Store(error)) => assert_file_lost(&error),
        inserted => panic!("{inserted:?}"),
    }
    let touched = store.touch(&[(record.id(), at(1))]).await;
    assert_file_lost(&touched.unwrap_err());
    assert_file_lost(&store.check_writable().await.unwrap_err());
    tokio::time::sleep(MAX_CHECK_AGE).await;
    assert_file_lost(&store.get(record.id()).await.unwrap_err());
    let found = store.find_by_digest(record.digest()).await;
    assert_file_lost(&found.unwrap_err());
}

async fn assert_usable(store: &Store) {
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    assert!(store.get(record.id()).await.unwrap().is_some());
    store.check_writable().await.unwrap();
}

async fn wait_for_feed(store: &Store, state: FeedStatus) {
    let started = Instant::now();
    while store.feed_status() != state {
        assert!(started.elapsed() < TIMEOUT, "not {state:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Creates a database with one token and closes it.
async fn create_database(path: &Path) {
    let other = SqliteStore::open(path).await.unwrap();
    other.insert(&write(&minted())).await.unwrap();
    other.close().await.unwrap();
}

pub(crate) async fn changes_fail_after_the_file_is_removed(database: TestDatabase) {
    let store = database.open().await.watching();
    let changes = Changes::of(&store);
    changes.wait_for_everything().await;
    assert_usable(&store).await;
    let moved = database.file().with_file_name("moved");
    fs::rename(database.file(), &moved).unwrap();
    assert_lost(&store).await;
    wait_for_feed(&store, FeedStatus::Lost).await;
    assert!(!database.file().exists(), "the store created a new file");
    // The original file is restored.
    fs::rename(&moved, database.file()).unwrap();
    assert_usable(&store).await;
    wait_for_feed(&store, FeedStatus::Connected).await;
    fs::remove_file(database.file()).unwrap();
    assert_lost(&store).await;
}

pub(crate) async fn changes_fail_after_the_file_is_replaced(database: TestDatabase) {
    let store = database.open().await.watching();
    let changes = Changes::of(&store);
    changes.wait_for_everything().await;
    assert_usable(&store).await;
    let other = database.file().with_file_name("other.db");
    create_database(&other).await;
    fs::rename(&other, database.file()).unwrap();
    assert_lost(&store).await;
    wait_for_feed(&store, FeedStatus::Lost).await;
    // Concurrent lookups do not open a connection to the other file.
    let record = minted();
    let lookups = (0..8).map(|_| store.get(record.id()));
    for found in futures::future::join_all(lookups).await {
        assert_file_lost(&found.unwrap_err());
    }
    store.close().await;
    // A store that is opened now uses the other database and may write to it.
    for entry in ["tokens.db-wal", "tokens.db-shm"] {
        let _ = fs::remove_file(database.file().with_file_name(entry));
    }
    assert_usable(&database.open().await).await;
    let pool = database.pool(1).await;
    assert_eq!(pool.number("SELECT COUNT(*) FROM service_tokens").await, 2);
}

pub(crate) async fn changes_fail_after_the_log_is_removed(database: TestDatabase) {
    let store = database.open().await;
    assert_usable(&store).await;
    let moved = database.file().with_file_name("moved");
    for name in ["tokens.db-wal", "tokens.db-shm"] {
        let log = database.file().with_file_name(name);
        fs::rename(&log, &moved).unwrap();
        assert_lost(&store).await;
        fs::rename(&moved, &log).unwrap();
        assert_usable(&store).await;
    }
}

pub(crate) async fn changes_fail_after_the_symlink_moves(database: TestDatabase) {
    let folder = database.file().parent().unwrap().to_owned();
    let link = folder.join("link.db");
    create_database(&folder.join("one.db")).await;
    create_database(&folder.join("two.db")).await;
    std::os::unix::fs::symlink("one.db", &link).unwrap();
    let store = SqliteStore::open(&link).await.unwrap();
    let store = Store::Sqlite(store.with_deadline(TIMEOUT));
    assert_usable(&store).await;
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("two.db", &link).unwrap();
    assert_lost(&store).await;
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("one.db", &link).unwrap();
    assert_usable(&store).await;
    store.close().await;
    assert!(!folder.join("one.db-wal").exists());
}

pub(crate) async fn change_fails_if_the_file_is_replaced_during_it(database: TestDatabase) {
    let store = database.open().await;
    assert_usable(&store).await;
    let TestPool::Sqlite(other) = database.pool(1).await else {
        unreachable!("the database is a file")
    };
    // The change has checked the file and then waits for this lock.
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let (changing, record) = (store.clone(), minted());
    let change = tokio::spawn(async move { changing.insert(&write(&record)).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    fs::rename(database.file(), database.file().with_file_name("moved")).unwrap();
    lock.rollback().await.unwrap();
    match change.await.unwrap() {
        Err(RegistryError::Store(error)) => assert_file_lost(&error),
        inserted => panic!("{inserted:?}"),
    }
}

pub(crate) async fn checks_the_file_of_application_pools(database: TestDatabase) {
    let store = database.pool(2).await.store().await;
    assert_usable(&store).await;
    fs::remove_file(database.file()).unwrap();
    assert_lost(&store).await;
    // An in-memory database has no file to check.
    let memory = SqliteStore::in_memory().await.unwrap();
    assert_usable(&Store::Sqlite(memory)).await;
}
