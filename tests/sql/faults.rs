//! Databases that are busy, down, frozen or recovering. The store is unavailable within the deadline
//! and never reports a token as unknown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use test_support::postgres::{Postgres, Stop};
use test_support::stall::Stopwatch;
use tower_service_token::registry::{ListRequest, RegistryError, TokenFilter, TokenRegistry};
use tower_service_token::store::sql::SqliteStore;
use tower_service_token::store::{StoreErrorKind, TokenRecord};

use crate::database::{Changes, Server, Store, TestDatabase, TestPool, at, minted, write};

const DEADLINE: Duration = Duration::from_millis(300);

/// The margin for a busy machine.
const SLACK: Duration = Duration::from_secs(2);

/// Longer than any successful step takes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Every operation fails as unavailable, in time.
async fn assert_unavailable(store: &Store, record: &TokenRecord) {
    let uses = [(record.id(), at(1))];
    let request = ListRequest::new(TokenFilter::new(), at(1));
    let unavailable = async |outcome: Result<(), RegistryError>, begun: Stopwatch| {
        let Err(RegistryError::Store(error)) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        let took = begun.elapsed_without_stalls();
        assert!(took < DEADLINE + SLACK, "{took:?}");
    };
    let begun = Stopwatch::start();
    let found = store.find_by_digest(record.digest()).await;
    unavailable(found.map(drop).map_err(Into::into), begun).await;
    let begun = Stopwatch::start();
    let listed = store.list(&request).await;
    unavailable(listed.map(drop).map_err(Into::into), begun).await;
    let begun = Stopwatch::start();
    unavailable(store.insert(&write(&minted())).await, begun).await;
    let begun = Stopwatch::start();
    let updated = store.update(&write(record)).await;
    unavailable(updated.map(drop), begun).await;
    let begun = Stopwatch::start();
    let touched = store.touch(&uses).await;
    unavailable(touched.map_err(Into::into), begun).await;
}

pub(crate) async fn exhausted_pools_are_unavailable_within_the_deadline(database: TestDatabase) {
    let pool = database.pool(1).await;
    let store = pool.store().await.with_deadline(Duration::from_secs(60));
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    let store = store.with_deadline(DEADLINE);
    match &pool {
        TestPool::Sqlite(pool) => {
            let held = pool.acquire().await.unwrap();
            assert_unavailable(&store, &record).await;
            drop(held);
        }
        TestPool::Postgres(pool) => {
            let held = pool.acquire().await.unwrap();
            assert_unavailable(&store, &record).await;
            drop(held);
        }
    }
    let store = store.with_deadline(Duration::from_secs(60));
    assert!(store.get(record.id()).await.unwrap().is_some());
}

pub(crate) async fn locked_files_are_unavailable_within_the_deadline(database: TestDatabase) {
    let store = database.open().await;
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    let hasty = store.clone().with_deadline(DEADLINE);
    let TestPool::Sqlite(other) = database.pool(1).await else {
        unreachable!("a file")
    };
    let held = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let begun = Stopwatch::start();
    let refused = hasty.insert(&write(&minted())).await;
    let Err(RegistryError::Store(error)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let took = begun.elapsed_without_stalls();
    assert!(took < DEADLINE + SLACK, "{took:?}");
    // Readers are not affected.
    assert!(store.get(record.id()).await.unwrap().is_some());
    held.rollback().await.unwrap();
    store.update(&write(&record)).await.unwrap();
    let pool = database.pool(1).await;
    assert_eq!(pool.number("SELECT COUNT(*) FROM service_tokens").await, 1);
}

/// SQLite ends the transaction of a change that finds no space.
pub(crate) async fn recovers_from_a_full_disk(database: TestDatabase) {
    let options = SqliteConnectOptions::new().filename(database.file());
    let options = options.create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.connect_with(options).await.unwrap();
    let store = SqliteStore::with_pool(pool.clone()).await.unwrap();
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    for _ in 0..2 {
        // The file may not grow.
        sqlx::query("PRAGMA max_page_count = 1")
            .execute(&pool)
            .await
            .unwrap();
        let long = "x".repeat(100_000);
        let refused = store
            .insert(&write(&minted().with_description(&*long)))
            .await;
        let Err(RegistryError::Store(error)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(store.get(record.id()).await.unwrap().is_some());
        // A new connection has no such limit.
        store.insert(&write(&minted())).await.unwrap();
        store.check_writable().await.unwrap();
    }
    let pool = database.pool(1).await;
    assert_eq!(pool.number("SELECT COUNT(*) FROM service_tokens").await, 3);
}

/// All connections of the store's own pool are closed; the store reconnects without an error.
pub(crate) async fn operations_survive_killed_connections(database: TestDatabase) {
    let store = database.open().await;
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    let (server, url) = database.url();
    for _ in 0..3 {
        // Opens several connections.
        let lookups = (0..8).map(|_| store.get(record.id()));
        futures::future::join_all(lookups).await;
        server.kill_connections(url).await;
        let known = store.get(record.id()).await.unwrap().unwrap();
        let found = store.find_by_digest(record.digest()).await.unwrap();
        assert!(found.is_some());
        server.kill_connections(url).await;
        store.update(&write(&known)).await.unwrap();
        server.kill_connections(url).await;
        store.touch(&[(record.id(), at(5))]).await.unwrap();
    }
}

/// A server of this test's own, with a store and a token in it.
async fn private() -> (Arc<Postgres>, Store, TokenRecord) {
    let server = Arc::new(Postgres::private().unwrap());
    let database = TestDatabase::postgres(Server(Arc::clone(&server)))
        .create()
        .await;
    let store = database.open().await;
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    (server, store, record)
}

pub(crate) async fn recovers_when_the_server_restarts(_: TestDatabase) {
    let (server, store, record) = private().await;
    let changes = Changes::of(&store);
    changes.wait_for_everything().await;
    // Lookups run continuously. They find the token, or the store is unavailable.
    let done = Arc::new(AtomicBool::new(false));
    let counts = [(); 8].map(|()| Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]));
    let lookups = counts.clone().map(|counts| {
        let (store, done) = (store.clone().with_deadline(DEADLINE), Arc::clone(&done));
        let digest = *record.digest();
        tokio::spawn(async move {
            let [found, unavailable] = &*counts;
            while !done.load(Ordering::SeqCst) {
                let count = match store.find_by_digest(&digest).await {
                    Ok(Some(_)) => found,
                    Ok(None) => panic!("a good token was not found"),
                    Err(error) => {
                        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
                        unavailable
                    }
                };
                count.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    // Waits until each of them has one more found, or one more that is unavailable.
    let all_get_one_more = async |which: usize| {
        let counted = || counts.each_ref().map(|it| it[which].load(Ordering::SeqCst));
        let (before, begun) = (counted(), Instant::now());
        while counted()
            .iter()
            .zip(before)
            .any(|(now, before)| *now <= before)
        {
            assert!(begun.elapsed() < TIMEOUT, "{counts:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    for how in [Stop::Fast, Stop::Immediate] {
        all_get_one_more(0).await;
        on_a_thread(&server, move |server| server.stop(how)).await;
        all_get_one_more(1).await;
        assert_unavailable(&store.clone().with_deadline(DEADLINE), &record).await;
        on_a_thread(&server, Postgres::start).await;
        changes.wait_for_everything().await;
        let known = store.get(record.id()).await.unwrap().unwrap();
        store.update(&write(&known)).await.unwrap();
    }
    all_get_one_more(0).await;
    done.store(true, Ordering::SeqCst);
    for lookups in lookups {
        lookups.await.unwrap();
    }
}

pub(crate) async fn frozen_servers_are_unavailable_within_the_deadline(_: TestDatabase) {
    let (server, store, record) = private().await;
    let hasty = store.clone().with_deadline(DEADLINE);
    let changes = Changes::of(&store);
    changes.wait_for_everything().await;
    server.suspend();
    let frozen = Stopwatch::start();
    // Long enough for the silence to be noticed, although no connection was closed.
    while frozen.elapsed_without_stalls() < Duration::from_secs(7) {
        assert_unavailable(&hasty, &record).await;
    }
    server.resume();
    assert!(store.get(record.id()).await.unwrap().is_some());
    changes.wait_for_everything().await;
}

pub(crate) async fn acknowledged_changes_survive_a_server_crash(_: TestDatabase) {
    /// The minimum of changes that are acknowledged before each crash.
    const EACH: usize = 10;

    let (server, store, _) = private().await;
    let mut acknowledged = Vec::new();
    for _ in 0..3 {
        let count = Arc::new(AtomicUsize::new(0));
        let writer = {
            let store = store.clone().with_deadline(Duration::from_secs(3));
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut done = Vec::new();
                loop {
                    let record = minted().with_roles(["a", "b"]);
                    match store.insert(&write(&record)).await {
                        Ok(()) => done.push(record),
                        // The server is gone, or busy as long as the crash has not come.
                        Err(_) if count.load(Ordering::SeqCst) > EACH => return done,
                        Err(_) => {}
                    }
                    count.store(done.len(), Ordering::SeqCst);
                }
            })
        };
        // The crash comes in the midst of the writes.
        let begun = Instant::now();
        while count.load(Ordering::SeqCst) <= EACH {
            assert!(begun.elapsed() < TIMEOUT, "too few are acknowledged");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        on_a_thread(&server, |server| server.stop(Stop::Immediate)).await;
        acknowledged.extend(writer.await.unwrap());
        on_a_thread(&server, Postgres::start).await;
    }
    assert!(acknowledged.len() > 3 * EACH, "{}", acknowledged.len());
    for record in &acknowledged {
        let stored = store.get(record.id()).await.unwrap();
        assert!(stored.is_some(), "an acknowledged token is not there");
    }
}

async fn on_a_thread(server: &Arc<Postgres>, work: impl FnOnce(&Postgres) + Send + 'static) {
    let server = Arc::clone(server);
    tokio::task::spawn_blocking(move || work(&server))
        .await
        .unwrap();
}
