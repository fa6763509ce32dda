//! Databases that are busy, down, suspended or recovering. The store reports an outage within the deadline
//! and never reports a known token as unknown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use test_support::postgres::{Postgres, Stop, SuspendedServer, on_blocking_thread};
use test_support::stall::Stopwatch;
use tower_service_token::registry::{ListRequest, RegistryError, TokenFilter, TokenRegistry};
use tower_service_token::store::sql::SqliteStore;
use tower_service_token::store::{StoreErrorKind, TokenRecord};

use crate::database::{Changes, Server, Store, TestDatabase, TestPool, at, minted, write};

const DEADLINE: Duration = Duration::from_millis(300);

/// The margin for a busy machine.
const SLACK: Duration = Duration::from_secs(2);

/// The timeout of a step. Successful steps are much faster.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Asserts that every operation fails as unavailable within the deadline.
async fn assert_unavailable(store: &Store, record: &TokenRecord) {
    let uses = [(record.id(), at(1))];
    let request = ListRequest::new(TokenFilter::new(), at(1));
    let assert_unavailable = async |outcome: Result<(), RegistryError>, started: Stopwatch| {
        let Err(RegistryError::Store(error)) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        let elapsed = started.elapsed_without_stalls();
        assert!(elapsed < DEADLINE + SLACK, "{elapsed:?}");
    };
    let started = Stopwatch::start();
    let found = store.find_by_digest(record.digest()).await;
    assert_unavailable(found.map(drop).map_err(Into::into), started).await;
    let started = Stopwatch::start();
    let listed = store.list(&request).await;
    assert_unavailable(listed.map(drop).map_err(Into::into), started).await;
    let started = Stopwatch::start();
    assert_unavailable(store.insert(&write(&minted())).await, started).await;
    let started = Stopwatch::start();
    let updated = store.update(&write(record)).await;
    assert_unavailable(updated.map(drop), started).await;
    let started = Stopwatch::start();
    let touched = store.touch(&uses).await;
    assert_unavailable(touched.map_err(Into::into), started).await;
}

pub(crate) async fn exhausted_pools_are_unavailable_within_the_deadline(database: TestDatabase) {
    let pool = database.pool(1).await;
    let store = pool.store().await.with_deadline(Duration::from_secs(60));
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    let store = store.with_deadline(DEADLINE);
    match &pool {
        TestPool::Sqlite(pool) => {
            let lock = pool.acquire().await.unwrap();
            assert_unavailable(&store, &record).await;
            drop(lock);
        }
        TestPool::Postgres(pool) => {
            let lock = pool.acquire().await.unwrap();
            assert_unavailable(&store, &record).await;
            drop(lock);
        }
    }
    let store = store.with_deadline(Duration::from_secs(60));
    assert!(store.get(record.id()).await.unwrap().is_some());
}

pub(crate) async fn locked_files_are_unavailable_within_the_deadline(database: TestDatabase) {
    let store = database.open().await;
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    let with_short_deadline = store.clone().with_deadline(DEADLINE);
    let TestPool::Sqlite(other) = database.pool(1).await else {
        unreachable!("the database is a file")
    };
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let started = Stopwatch::start();
    let rejected = with_short_deadline.insert(&write(&minted())).await;
    let Err(RegistryError::Store(error)) = rejected else {
        panic!("{rejected:?}");
    };
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let elapsed = started.elapsed_without_stalls();
    assert!(elapsed < DEADLINE + SLACK, "{elapsed:?}");
    // Readers are not affected.
    assert!(store.get(record.id()).await.unwrap().is_some());
    lock.rollback().await.unwrap();
    store.update(&write(&record)).await.unwrap();
    let pool = database.pool(1).await;
    assert_eq!(pool.number("SELECT COUNT(*) FROM service_tokens").await, 1);
}

/// SQLite rolls back the transaction of a change that does not fit on the disk.
pub(crate) async fn recovers_from_a_full_disk(database: TestDatabase) {
    let options = SqliteConnectOptions::new().filename(database.file());
    let options = options.create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.connect_with(options).await.unwrap();
    let store = SqliteStore::with_pool(pool.clone()).await.unwrap();
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    for _ in 0..2 {
        // The file cannot grow.
        sqlx::query("PRAGMA max_page_count = 1")
            .execute(&pool)
            .await
            .unwrap();
        let long = "x".repeat(100_000);
        let rejected = store
            .insert(&write(&minted().with_description(&*long)))
            .await;
        let Err(RegistryError::Store(error)) = rejected else {
            panic!("{rejected:?}");
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

/// All connections of the pool are closed. The store reconnects without an error.
pub(crate) async fn operations_survive_killed_connections(database: TestDatabase) {
    let store = database.open().await;
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    let (server, url) = database.url();
    for _ in 0..3 {
        // The lookups open several connections.
        let lookups = (0..8).map(|_| store.get(record.id()));
        futures::future::join_all(lookups).await;
        server.kill_connections(url).await;
        let current = store.get(record.id()).await.unwrap().unwrap();
        let found = store.find_by_digest(record.digest()).await.unwrap();
        assert!(found.is_some());
        server.kill_connections(url).await;
        store.update(&write(&current)).await.unwrap();
        server.kill_connections(url).await;
        store.touch(&[(record.id(), at(5))]).await.unwrap();
    }
}

/// Starts a server for this test, with a store and a token.
async fn private_store() -> (Arc<Postgres>, Store, TokenRecord) {
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
    let (server, store, record) = private_store().await;
    let changes = Changes::of(&store);
    changes.wait_for_everything().await;
    // Lookups run continuously. Each finds the token or fails as unavailable.
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
                    Ok(None) => panic!("a valid token was not found"),
                    Err(error) => {
                        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
                        unavailable
                    }
                };
                count.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    // Waits until each task has one more lookup of this outcome.
    let wait_for_one_more = async |outcome: usize| {
        let counted = || {
            counts
                .each_ref()
                .map(|it| it[outcome].load(Ordering::SeqCst))
        };
        let (before, started) = (counted(), Instant::now());
        while counted()
            .iter()
            .zip(before)
            .any(|(now, before)| *now <= before)
        {
            assert!(started.elapsed() < TIMEOUT, "{counts:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    for stop in [Stop::Fast, Stop::Immediate] {
        wait_for_one_more(0).await;
        on_blocking_thread(&server, move |server| server.stop(stop)).await;
        wait_for_one_more(1).await;
        assert_unavailable(&store.clone().with_deadline(DEADLINE), &record).await;
        on_blocking_thread(&server, Postgres::start).await;
        changes.wait_for_everything().await;
        let current = store.get(record.id()).await.unwrap().unwrap();
        store.update(&write(&current)).await.unwrap();
    }
    wait_for_one_more(0).await;
    done.store(true, Ordering::SeqCst);
    for lookups in lookups {
        lookups.await.unwrap();
    }
}

pub(crate) async fn suspended_servers_are_unavailable_within_the_deadline(_: TestDatabase) {
    let (server, store, record) = private_store().await;
    let with_short_deadline = store.clone().with_deadline(DEADLINE);
    let changes = Changes::of(&store);
    changes.wait_for_everything().await;
    let suspended = SuspendedServer::suspend(&server).await;
    let started = Stopwatch::start();
    // The store detects a server that does not respond in this time, although no connection is closed.
    while started.elapsed_without_stalls() < Duration::from_secs(7) {
        assert_unavailable(&with_short_deadline, &record).await;
    }
    drop(suspended);
    assert!(store.get(record.id()).await.unwrap().is_some());
    changes.wait_for_everything().await;
}

pub(crate) async fn acknowledged_changes_survive_a_server_crash(_: TestDatabase) {
    /// The minimum number of acknowledged changes before each crash.
    const MIN_CHANGES: usize = 10;

    let (server, store, _) = private_store().await;
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
                        // The server has crashed. Before the crash it may be busy.
                        Err(_) if count.load(Ordering::SeqCst) > MIN_CHANGES => return done,
                        Err(_) => {}
                    }
                    count.store(done.len(), Ordering::SeqCst);
                }
            })
        };
        // The crash happens while writes are in flight.
        let started = Instant::now();
        while count.load(Ordering::SeqCst) <= MIN_CHANGES {
            assert!(
                started.elapsed() < TIMEOUT,
                "too few changes are acknowledged"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        on_blocking_thread(&server, |server| server.stop(Stop::Immediate)).await;
        acknowledged.extend(writer.await.unwrap());
        on_blocking_thread(&server, Postgres::start).await;
    }
    assert!(
        acknowledged.len() > 3 * MIN_CHANGES,
        "{}",
        acknowledged.len()
    );
    for record in &acknowledged {
        let stored = store.get(record.id()).await.unwrap();
        assert!(stored.is_some(), "an acknowledged token is lost");
    }
}
