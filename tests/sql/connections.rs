//! Replacement of connections after a failure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use test_support::postgres::{Postgres, SuspendedServer, on_blocking_thread};
use test_support::stall::Stopwatch;
use tower_service_token::registry::{ListRequest, TokenFilter};

use crate::database::{Server, Store, TestDatabase, at};
use crate::replicas::{MAX_RECOVERY, Replicas};
use crate::sessions::locked;

const CONNECTIONS: usize = 8;

/// Reads on several connections concurrently. The reads do not need the locked table.
async fn read_concurrently(store: &Store) {
    let reads = (0..CONNECTIONS).map(|_| store.state());
    for state in futures::future::join_all(reads).await {
        state.unwrap();
    }
}

/// Returns the idle sessions of the database that match `condition`.
async fn sessions(database: &TestDatabase, condition: &str) -> BTreeSet<String> {
    let pool = database.pool(1).await;
    let statement = format!(
        "SELECT COALESCE(string_agg(pid::TEXT, ' '), '') FROM pg_stat_activity \
         WHERE datname = current_database() AND state = 'idle' AND {condition}"
    );
    let pids = pool.text(&statement).await;
    pool.close().await;
    pids.split(' ').map(str::to_owned).collect()
}

/// Returns the sessions that the store uses for reads.
async fn readers(database: &TestDatabase, store: &Store) -> BTreeSet<String> {
    // The store replaces the connection that opened it, because its deadline differs.
    for _ in 0..3 {
        read_concurrently(store).await;
    }
    let readers = sessions(database, "query LIKE 'SELECT store_id%'").await;
    assert!(readers.len() > CONNECTIONS / 2, "{readers:?}");
    readers
}

pub(crate) async fn slow_statements_close_only_their_connection(database: TestDatabase) {
    database.open().await;
    let (store, _holder) = locked(&database, "LOCK TABLE service_tokens").await;
    let before = readers(&database, &store).await;
    let request = ListRequest::new(TokenFilter::new(), at(1));
    store.list(&request).await.unwrap_err();
    for _ in 0..3 {
        read_concurrently(&store).await;
    }
    let remaining = sessions(&database, "TRUE").await;
    let remaining = remaining.intersection(&before).count();
    assert!(
        remaining + 1 >= before.len(),
        "{remaining} of {}",
        before.len()
    );
}

/// The connection is still busy when it returns to the pool.
pub(crate) async fn cancelled_statements_close_only_their_connection(database: TestDatabase) {
    database.open().await;
    let (store, _holder) = locked(&database, "LOCK TABLE service_tokens").await;
    let before = readers(&database, &store).await;
    let request = ListRequest::new(TokenFilter::new(), at(1));
    let listed = tokio::time::timeout(Duration::from_millis(100), store.list(&request)).await;
    assert!(listed.is_err(), "the listing did not wait for the lock");
    let started = Stopwatch::start();
    // This is longer than a connection may take to return to the pool.
    while started.elapsed_without_stalls() < Duration::from_millis(1500) {
        read_concurrently(&store).await;
    }
    let remaining = sessions(&database, "TRUE").await;
    let remaining = remaining.intersection(&before).count();
    assert!(
        remaining + 1 >= before.len(),
        "{remaining} of {}",
        before.len()
    );
}

pub(crate) async fn read_only_servers_keep_their_connections(_: TestDatabase) {
    let replicas = Replicas::new().await;
    let url = replicas.standby.url_of(&replicas.url);
    let server = Server(Arc::clone(&replicas.standby));
    let database = TestDatabase::Postgres { server, url };
    let store = database.open().await;
    let before = readers(&database, &store).await;
    let started = Stopwatch::start();
    // This is longer than the interval between two attempts to find a server that accepts changes.
    while started.elapsed_without_stalls() < Duration::from_millis(2500) {
        store.check_writable().await.unwrap_err();
        read_concurrently(&store).await;
    }
    let after = sessions(&database, "TRUE").await;
    let lost: Vec<_> = before.difference(&after).collect();
    assert!(lost.is_empty(), "{lost:?} of {before:?} were replaced");
}

pub(crate) async fn replaces_idle_connections_to_a_hanging_server(_: TestDatabase) {
    let replicas = Replicas::new().await;
    read_concurrently(&replicas.store).await;
    let suspended = SuspendedServer::suspend(&replicas.primary).await;
    replicas.proxy.move_to(replicas.standby.address());
    on_blocking_thread(&replicas.standby, Postgres::promote).await;
    let elapsed = replicas.wait_for_recovery().await;
    assert!(elapsed < MAX_RECOVERY, "{elapsed:?}");
    replicas.assert_recovered().await;
    drop(suspended);
}
