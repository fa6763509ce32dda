//! What a store says of itself to health checks.

use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tower_service_token::store::{FeedState, SqliteStore, TokenRegistry, TokenStore};

use crate::place::{Place, Told, at, minted, write};

const CHECKS: &str = "SELECT write_checks FROM service_token_store";

pub(crate) async fn checks_that_changes_can_be_committed(place: Place) {
    let store = place.open().await.with_audit_trail();
    let told = Told::by(&store);
    told.until_everything().await;
    for _ in 0..3 {
        store.check_writable().await.unwrap();
    }
    assert_eq!(place.pool(1).await.number(CHECKS).await, 3);
    assert!(store.audit_trail(None, 10).await.unwrap().is_empty());
    assert!(told.take().is_empty(), "a check changes no token");
}

pub(crate) async fn a_write_check_that_cannot_write_fails(place: Place) {
    let store = place.open().await;
    if !place.is_postgres() {
        let options = SqliteConnectOptions::new().filename(place.file());
        let pool = SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect_with(options.pragma("query_only", "on"));
        let reads = SqliteStore::with_pool(pool.await.unwrap()).await.unwrap();
        reads.check_writable().await.unwrap_err();
        assert!(reads.get(minted().id()).await.unwrap().is_none());
    }
    place
        .run("ALTER TABLE service_token_store RENAME TO gone")
        .await;
    store.check_writable().await.unwrap_err();
    assert!(store.state().await.is_err());
    place
        .run("ALTER TABLE gone RENAME TO service_token_store")
        .await;
    store.check_writable().await.unwrap();
    place.run("DELETE FROM service_token_store").await;
    store.check_writable().await.unwrap_err();
}

pub(crate) async fn a_store_is_initialized_once(place: Place) {
    let store = place.open().await;
    let new = store.state().await.unwrap();
    assert_eq!(new.initialized_at(), None);
    for millis in [2000, 1000, 3000] {
        store.mark_initialized(at(millis)).await;
    }
    let state = place.open().await.state().await.unwrap();
    assert_eq!(state.initialized_at(), Some(at(2000)));
    assert_eq!(state.store_id(), new.store_id());
    let other = SqliteStore::in_memory().await.unwrap();
    assert_ne!(
        other.state().await.unwrap().unwrap().store_id(),
        new.store_id()
    );
}

pub(crate) async fn the_feed_is_connected_while_the_file_can_be_read(place: Place) {
    let store = place.open().await.watching();
    assert_eq!(store.feed_state(), FeedState::NotUsed);
    let told = Told::by(&store);
    let becomes = async |state: FeedState| {
        let begun = Instant::now();
        while store.feed_state() != state {
            assert!(begun.elapsed() < Duration::from_secs(60), "not {state:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    becomes(FeedState::Connected).await;
    for _ in 0..2 {
        place
            .run("ALTER TABLE service_token_changes RENAME TO gone")
            .await;
        becomes(FeedState::Lost).await;
        told.take();
        place
            .run("ALTER TABLE gone RENAME TO service_token_changes")
            .await;
        becomes(FeedState::Connected).await;
        told.until_everything().await;
    }
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    let memory = SqliteStore::in_memory().await.unwrap();
    memory.subscribe(&(told as _));
    assert_eq!(memory.feed_state(), FeedState::NotUsed);
}
