//! Closing a store.

use std::fs;
use std::time::{Duration, Instant};

use tower_service_token::registry::TokenRegistry;
use tower_service_token::store::sql::SqliteStore;
use tower_service_token::store::{FeedStatus, StoreErrorKind};

use crate::database::{Changes, TestDatabase, at, minted, write};

pub(crate) async fn closed_stores_are_unavailable(database: TestDatabase) {
    let store = database.open().await.with_audit_retention(Duration::MAX);
    let changes = Changes::of(&store);
    changes.wait_for_everything().await;
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    let clone = store.clone();
    store.close().await;
    // Closing again is not an error.
    clone.close().await;
    for store in [&store, &clone] {
        let found = store.find_by_digest(record.digest()).await.unwrap_err();
        assert_eq!(found.kind(), StoreErrorKind::Unavailable);
        let error = store.check_writable().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        store.insert(&write(&minted())).await.unwrap_err();
        store.touch(&[(record.id(), at(1))]).await.unwrap_err();
    }
    assert_eq!(store.feed_status(), FeedStatus::NotUsed);
    // A later subscription starts no task.
    let later = Changes::of(&store);
    if database.is_postgres() {
        let pool = database.pool(1).await;
        let other_sessions = "SELECT COUNT(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let started = Instant::now();
        while pool.number(other_sessions).await != 0 {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "the store still has sessions"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert!(later.take().is_empty());
    assert!(
        database
            .open()
            .await
            .get(record.id())
            .await
            .unwrap()
            .is_some()
    );
}

fn files(database: &TestDatabase) -> Vec<String> {
    let entries = fs::read_dir(database.file().parent().unwrap()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

pub(crate) async fn last_close_leaves_one_complete_file(database: TestDatabase) {
    let (first, second) = (database.open().await, database.open().await);
    let changes = [Changes::of(&first), Changes::of(&second)];
    for changes in &changes {
        changes.wait_for_everything().await;
    }
    let mut ids = Vec::new();
    for number in 0..20 {
        let record = minted();
        let store = if number % 2 == 0 { &first } else { &second };
        store.insert(&write(&record)).await.unwrap();
        ids.push(record.id());
    }
    first.close().await;
    second.insert(&write(&minted())).await.unwrap();
    assert!(files(&database).len() > 1, "the second store is still open");
    second.close().await;
    assert_eq!(files(&database), ["tokens.db"]);
    let copy = database.file().with_file_name("copy.db");
    fs::copy(database.file(), &copy).unwrap();
    let copy = SqliteStore::open(&copy).await.unwrap();
    for id in ids {
        assert!(copy.get(id).await.unwrap().is_some());
    }
}
