//! Which connections of a store are replaced after a failure, and which are not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use test_support::postgres::Postgres;
use test_support::stall::Stopwatch;
use tower_service_token::registry::{ListRequest, TokenFilter};

use crate::database::{Server, Store, TestDatabase, at};
use crate::replicas::{BOUND, Frozen, Replicas, on_a_thread};
use crate::sessions::locked;

const CONNECTIONS: usize = 8;

/// Reads on several connections at once, none of which waits for the table of tokens.
async fn read_at_once(store: &Store) {
    let reads = (0..CONNECTIONS).map(|_| store.state());
    for state in futures::future::join_all(reads).await {
        state.unwrap();
    }
}

/// The idle sessions of the database that `condition` holds for.
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

/// The sessions that the store reads by.
async fn readers(database: &TestDatabase, store: &Store) -> BTreeSet<String> {
    // The connection that opened the store is replaced, as its deadline was another one.
    for _ in 0..3 {
        read_at_once(store).await;
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
        read_at_once(&store).await;
    }
    let kept = sessions(&database, "TRUE").await;
    let kept = kept.intersection(&before).count();
    assert!(kept + 1 >= before.len(), "{kept} of {}", before.len());
}

/// Its connection is still busy when it goes back to the pool.
pub(crate) async fn abandoned_statements_close_only_their_connection(database: TestDatabase) {
    database.open().await;
    let (store, _holder) = locked(&database, "LOCK TABLE service_tokens").await;
    let before = readers(&database, &store).await;
    let request = ListRequest::new(TokenFilter::new(), at(1));
    let listed = tokio::time::timeout(Duration::from_millis(100), store.list(&request)).await;
    assert!(listed.is_err(), "nothing waited for the lock");
    let begun = Stopwatch::start();
    // Longer than a connection may take to go back.
    while begun.elapsed_without_stalls() < Duration::from_millis(1500) {
        read_at_once(&store).await;
    }
    let kept = sessions(&database, "TRUE").await;
    let kept = kept.intersection(&before).count();
    assert!(kept + 1 >= before.len(), "{kept} of {}", before.len());
}

pub(crate) async fn read_only_servers_keep_their_connections(_: TestDatabase) {
    let replicas = Replicas::new().await;
    let url = replicas.standby.url_of(&replicas.url);
    let server = Server(Arc::clone(&replicas.standby));
    let database = TestDatabase::Postgres { server, url };
    let store = database.open().await;
    let before = readers(&database, &store).await;
    let begun = Stopwatch::start();
    // Longer than between two attempts to find a server that accepts changes.
    while begun.elapsed_without_stalls() < Duration::from_millis(2500) {
        store.check_writable().await.unwrap_err();
        read_at_once(&store).await;
    }
    let after = sessions(&database, "TRUE").await;
    let lost: Vec<_> = before.difference(&after).collect();
    assert!(lost.is_empty(), "{lost:?} of {before:?} were replaced");
}

pub(crate) async fn replaces_idle_connections_to_a_hanging_server(_: TestDatabase) {
    let replicas = Replicas::new().await;
    read_at_once(&replicas.store).await;
    on_a_thread(&replicas.primary, Postgres::suspend).await;
    let frozen = Frozen(Arc::clone(&replicas.primary));
    replicas.name.move_to(replicas.standby.address());
    on_a_thread(&replicas.standby, Postgres::promote).await;
    let took = replicas.recovers().await;
    assert!(took < BOUND, "{took:?}");
    replicas.assert_recovered().await;
    drop(frozen);
}
