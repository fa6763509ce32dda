//! A database file that is removed or replaced while a store has it open.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tower_service_token::registry::{RegistryError, TokenRegistry};
use tower_service_token::store::sql::SqliteStore;
use tower_service_token::store::{FeedStatus, StoreError, StoreErrorKind};

use crate::database::{Changes, Store, TestDatabase, TestPool, at, minted, write};

const TIMEOUT: Duration = Duration::from_secs(60);

/// How old the check behind a lookup may be.
const BOUND: Duration = Duration::from_millis(250);

fn assert_says_so(error: &StoreError) {
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let source = std::error::Error::source(error).unwrap().to_string();
    assert!(source.contains("was removed or replaced"), "{source}");
}

/// Every change fails, and lookups do so in time.
async fn assert_lost(store: &Store) {
    let record = minted();
    match store.insert(&write(&record)).await {
        Err(RegistryError::Store(error)) => assert_says_so(&error),
        inserted => panic!("{inserted:?}"),
    }
    let touched = store.touch(&[(record.id(), at(1))]).await;
    assert_says_so(&touched.unwrap_err());
    assert_says_so(&store.check_writable().await.unwrap_err());
    tokio::time::sleep(BOUND).await;
    assert_says_so(&store.get(record.id()).await.unwrap_err());
    let found = store.find_by_digest(record.digest()).await;
    assert_says_so(&found.unwrap_err());
}

async fn assert_works(store: &Store) {
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    assert!(store.get(record.id()).await.unwrap().is_some());
    store.check_writable().await.unwrap();
}

async fn becomes(store: &Store, state: FeedStatus) {
    let begun = Instant::now();
    while store.feed_status() != state {
        assert!(begun.elapsed() < TIMEOUT, "not {state:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A database with a token in it, which is closed.
async fn another(path: &Path) {
    let other = SqliteStore::open(path).await.unwrap();
    other.insert(&write(&minted())).await.unwrap();
    other.close().await.unwrap();
}

pub(crate) async fn changes_fail_after_the_file_is_removed(database: TestDatabase) {
    let store = database.open().await.watching();
    let changes = Changes::of(&store);
    changes.wait_for_everything().await;
    assert_works(&store).await;
    let aside = database.file().with_file_name("aside");
    fs::rename(database.file(), &aside).unwrap();
    assert_lost(&store).await;
    becomes(&store, FeedStatus::Lost).await;
    assert!(!database.file().exists(), "no file is created instead");
    // The same file is back.
    fs::rename(&aside, database.file()).unwrap();
    assert_works(&store).await;
    becomes(&store, FeedStatus::Connected).await;
    fs::remove_file(database.file()).unwrap();
    assert_lost(&store).await;
}

pub(crate) async fn changes_fail_after_the_file_is_replaced(database: TestDatabase) {
    let store = database.open().await.watching();
    let changes = Changes::of(&store);
    changes.wait_for_everything().await;
    assert_works(&store).await;
    let other = database.file().with_file_name("other.db");
    another(&other).await;
    fs::rename(&other, database.file()).unwrap();
    assert_lost(&store).await;
    becomes(&store, FeedStatus::Lost).await;
    // Several lookups at once open no connection to the other file.
    let record = minted();
    let lookups = (0..8).map(|_| store.get(record.id()));
    for found in futures::future::join_all(lookups).await {
        assert_says_so(&found.unwrap_err());
    }
    store.close().await;
    // A store that is opened now has the other database, and may write it.
    for entry in ["tokens.db-wal", "tokens.db-shm"] {
        let _ = fs::remove_file(database.file().with_file_name(entry));
    }
    assert_works(&database.open().await).await;
    let pool = database.pool(1).await;
    assert_eq!(pool.number("SELECT COUNT(*) FROM service_tokens").await, 2);
}

pub(crate) async fn changes_fail_after_the_log_is_removed(database: TestDatabase) {
    let store = database.open().await;
    assert_works(&store).await;
    let aside = database.file().with_file_name("aside");
    for name in ["tokens.db-wal", "tokens.db-shm"] {
        let log = database.file().with_file_name(name);
        fs::rename(&log, &aside).unwrap();
        assert_lost(&store).await;
        fs::rename(&aside, &log).unwrap();
        assert_works(&store).await;
    }
}

pub(crate) async fn changes_fail_after_the_symlink_moves(database: TestDatabase) {
    let folder = database.file().parent().unwrap().to_owned();
    let link = folder.join("link.db");
    another(&folder.join("one.db")).await;
    another(&folder.join("two.db")).await;
    std::os::unix::fs::symlink("one.db", &link).unwrap();
    let store = SqliteStore::open(&link).await.unwrap();
    let store = Store::Sqlite(store.with_deadline(TIMEOUT));
    assert_works(&store).await;
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("two.db", &link).unwrap();
    assert_lost(&store).await;
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("one.db", &link).unwrap();
    assert_works(&store).await;
    store.close().await;
    assert!(!folder.join("one.db-wal").exists());
}

pub(crate) async fn replacing_the_file_during_a_change_fails_it(database: TestDatabase) {
    let store = database.open().await;
    assert_works(&store).await;
    let TestPool::Sqlite(other) = database.pool(1).await else {
        unreachable!("a file")
    };
    // The change waits for this, after it has compared the file.
    let held = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let (changing, record) = (store.clone(), minted());
    let change = tokio::spawn(async move { changing.insert(&write(&record)).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    fs::rename(database.file(), database.file().with_file_name("aside")).unwrap();
    held.rollback().await.unwrap();
    match change.await.unwrap() {
        Err(RegistryError::Store(error)) => assert_says_so(&error),
        inserted => panic!("{inserted:?}"),
    }
}

pub(crate) async fn checks_the_file_of_application_pools(database: TestDatabase) {
    let store = database.pool(2).await.store().await;
    assert_works(&store).await;
    fs::remove_file(database.file()).unwrap();
    assert_lost(&store).await;
    // A database in memory has no file.
    let memory = SqliteStore::in_memory().await.unwrap();
    assert_works(&Store::Sqlite(memory)).await;
}
