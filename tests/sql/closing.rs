//! The end of a store.

use std::fs;
use std::time::{Duration, Instant};

use tower_service_token::store::{FeedState, SqliteStore, StoreErrorKind, TokenRegistry};

use crate::place::{Place, Told, at, minted, write};

pub(crate) async fn a_closed_store_is_unavailable(place: Place) {
    let store = place.open().await.with_audit_retention(Duration::MAX);
    let told = Told::by(&store);
    told.until_everything().await;
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    let clone = store.clone();
    store.close().await;
    // Again is no error.
    clone.close().await;
    for store in [&store, &clone] {
        let found = store.find_by_digest(record.digest()).await.unwrap_err();
        assert_eq!(found.kind(), StoreErrorKind::Unavailable);
        let error = store.check_writable().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        store.insert(&write(&minted())).await.unwrap_err();
        store.touch(&[(record.id(), at(1))]).await.unwrap_err();
    }
    assert_eq!(store.feed_state(), FeedState::NotUsed);
    // Whoever subscribes now wakes no task.
    let late = Told::by(&store);
    if place.is_postgres() {
        let pool = place.pool(1).await;
        let others = "SELECT COUNT(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let begun = Instant::now();
        while pool.number(others).await != 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "not closed");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert!(late.take().is_empty());
    assert!(place.open().await.get(record.id()).await.unwrap().is_some());
}

fn files(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.file().parent().unwrap()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

pub(crate) async fn the_last_to_close_leaves_one_complete_file(place: Place) {
    let (first, second) = (place.open().await, place.open().await);
    let told = [Told::by(&first), Told::by(&second)];
    for told in &told {
        told.until_everything().await;
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
    assert!(files(&place).len() > 1, "the second one still runs");
    second.close().await;
    assert_eq!(files(&place), ["tokens.db"]);
    let copy = place.file().with_file_name("copy.db");
    fs::copy(place.file(), &copy).unwrap();
    let copy = SqliteStore::open(&copy).await.unwrap();
    for id in ids {
        assert!(copy.get(id).await.unwrap().is_some());
    }
}
