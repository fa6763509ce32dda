//! Health checks and the state of a store.

use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tower_service_token::registry::TokenRegistry;
use tower_service_token::store::sql::SqliteStore;
use tower_service_token::store::{FeedStatus, TokenStore};

use crate::database::{Changes, TestDatabase, at, minted, write};

const CHECKS: &str = "SELECT write_checks FROM service_token_store";

pub(crate) async fn write_check_commits(database: TestDatabase) {
    let store = database.open().await.keep_audit_trail();
    let changes = Changes::of(&store);
    changes.wait_for_everything().await;
    for _ in 0..3 {
        store.check_writable().await.unwrap();
    }
    assert_eq!(database.pool(1).await.number(CHECKS).await, 3);
    assert!(store.audit_trail(None, 10).await.unwrap().is_empty());
    assert!(changes.take().is_empty(), "a check changes no token");
}

pub(crate) async fn write_check_fails_if_it_cannot_write(database: TestDatabase) {
    let store = database.open().await;
    if !database.is_postgres() {
        let options = SqliteConnectOptions::new().filename(database.file());
        let pool = SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect_with(options.pragma("query_only", "on"));
        let read_only = SqliteStore::with_pool(pool.await.unwrap()).await.unwrap();
        read_only.check_writable().await.unwrap_err();
        assert!(read_only.get(minted().id()).await.unwrap().is_none());
    }
    database
        .run("ALTER TABLE service_token_store RENAME TO renamed")
        .await;
    store.check_writable().await.unwrap_err();
    assert!(store.state().await.is_err());
    database
        .run("ALTER TABLE renamed RENAME TO service_token_store")
        .await;
    store.check_writable().await.unwrap();
    database.run("DELETE FROM service_token_store").await;
    store.check_writable().await.unwrap_err();
}

pub(crate) async fn initialization_is_recorded_once(database: TestDatabase) {
    let store = database.open().await;
    let new = store.state().await.unwrap();
    assert_eq!(new.initialized_at(), None);
    for millis in [2000, 1000, 3000] {
        store.mark_initialized(at(millis)).await;
    }
    let state = database.open().await.state().await.unwrap();
    assert_eq!(state.initialized_at(), Some(at(2000)));
    assert_eq!(state.store_id(), new.store_id());
    let other = SqliteStore::in_memory().await.unwrap();
    assert_ne!(
        other.state().await.unwrap().unwrap().store_id(),
        new.store_id()
    );
}

pub(crate) async fn feed_status_reports_loss_and_recovery(database: TestDatabase) {
    let store = database.open().await.watching();
    assert_eq!(store.feed_status(), FeedStatus::NotUsed);
    let changes = Changes::of(&store);
    let wait_for_status = async |state: FeedStatus| {
        let started = Instant::now();
        while store.feed_status() != state {
            assert!(started.elapsed() < Duration::from_secs(60), "not {state:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    wait_for_status(FeedStatus::Connected).await;
    for _ in 0..2 {
        database
            .run("ALTER TABLE service_token_changes RENAME TO renamed")
            .await;
        wait_for_status(FeedStatus::Lost).await;
        changes.take();
        database
            .run("ALTER TABLE renamed RENAME TO service_token_changes")
            .await;
        wait_for_status(FeedStatus::Connected).await;
        changes.wait_for_everything().await;
    }
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    let memory = SqliteStore::in_memory().await.unwrap();
    memory.subscribe(&(changes as _));
    assert_eq!(memory.feed_status(), FeedStatus::NotUsed);
}
