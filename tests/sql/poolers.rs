//! Stores behind the connection pooler `PgBouncer`.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection, Executor};
use test_support::postgres::{Pooler, Postgres};
use test_support::stall::Stopwatch;
use tokio::task::JoinSet;
use tower_service_token::registry::{ListRequest, TokenFilter};
use tower_service_token::store::TokenChange;
use tower_service_token::store::sql::{OpenStoreError, OpenStoreErrorKind, PostgresStore};

use crate::database::{Changes, Server, Store, TestDatabase, at, minted, write};

const REASON: &str = "the server shares sessions between clients, as PgBouncer does in transaction \
     mode, which prepared statements and LISTEN do not work with: connect to PostgreSQL itself, or \
     to a pool in session mode";

/// Starts a server for this test and creates a database.
async fn private_database() -> (Arc<Postgres>, TestDatabase) {
    let server = Arc::new(Postgres::private().unwrap());
    let database = TestDatabase::postgres(Server(Arc::clone(&server)));
    (server, database.create().await)
}

fn assert_rejected(opened: Result<PostgresStore, OpenStoreError>, settings: &str) {
    let error = opened.expect_err(settings);
    assert_eq!(
        error.kind(),
        OpenStoreErrorKind::Configuration,
        "{settings}"
    );
    assert_eq!(error.source().unwrap().to_string(), REASON, "{settings}");
}

pub(crate) async fn pools_that_share_sessions_are_rejected(_: TestDatabase) {
    let (server, database) = private_database().await;
    let (_, url) = database.url();
    for settings in [
        "pool_mode = transaction",
        "pool_mode = transaction\ndefault_pool_size = 1",
        "pool_mode = transaction\nserver_round_robin = 1",
        "pool_mode = transaction\nignore_startup_parameters = extra_float_digits",
        "pool_mode = statement",
    ] {
        let pooler = Pooler::start(&server, settings).unwrap();
        let url = pooler.url_of(url);
        for busy in [0, 1, 2, 5] {
            let others = clients(&url, busy).await;
            // The second store uses the names of the prepared statements of the first one.
            for _ in 0..2 {
                assert_rejected(PostgresStore::connect(&url).await, settings);
            }
            let mut pool = PgPoolOptions::new();
            pool = pool
                .max_connections(2)
                .idle_timeout(None)
                .max_lifetime(None);
            let options = (*PgPool::connect_lazy(&url).unwrap().connect_options()).clone();
            let pool = pool.connect_lazy_with(options.extra_float_digits(None));
            assert_rejected(PostgresStore::with_pool(pool).await, settings);
            drop(others);
        }
    }
}

/// Starts other clients of a pooler, which use its sessions until they are dropped.
async fn clients(url: &str, count: usize) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    let options = (*PgPool::connect_lazy(url).unwrap().connect_options()).clone();
    for _ in 0..count {
        let options = options.clone().extra_float_digits(None);
        let mut connection = PgConnection::connect_with(&options).await.unwrap();
        clients.spawn(async move { while connection.execute("SELECT 1").await.is_ok() {} });
    }
    clients
}

pub(crate) async fn pools_in_session_mode_are_accepted(_: TestDatabase) {
    let (server, database) = private_database().await;
    let (_, url) = database.url();
    let pooler = Pooler::start(&server, "pool_mode = session").unwrap();
    // The second store gets the sessions of the first one, without its prepared statements.
    for _ in 0..2 {
        let store = PostgresStore::connect(&pooler.url_of(url)).await.unwrap();
        let store = Store::Postgres(store);
        let changes = Changes::of(&store);
        changes.wait_for_everything().await;
        let record = minted();
        store.insert(&write(&record)).await.unwrap();
        assert!(
            store
                .find_by_digest(record.digest())
                .await
                .unwrap()
                .is_some()
        );
        let request = ListRequest::new(TokenFilter::new(), at(1));
        assert!(!store.list(&request).await.unwrap().records.is_empty());
        changes.take();
        let direct = database.open().await;
        direct.update(&write(&record)).await.unwrap();
        let is_notified =
            |it: &TokenChange| matches!(it, TokenChange::Token { id, .. } if *id == record.id());
        changes.until(is_notified).await;
        direct.close().await;
        store.close().await;
    }
}

/// The pooler accepts further connections, but answers none of them.
pub(crate) async fn fewer_sessions_than_connections_are_not_an_error(_: TestDatabase) {
    let (server, database) = private_database().await;
    let (_, url) = database.url();
    for sessions in [1, 2, 3] {
        let settings = format!("pool_mode = session\ndefault_pool_size = {sessions}");
        let pooler = Pooler::start(&server, &settings).unwrap();
        let store = PostgresStore::connect(&pooler.url_of(url)).await.unwrap();
        let store = Store::Postgres(store);
        let record = minted();
        store.insert(&write(&record)).await.unwrap();
        // The change feed takes a session of the pool, except for the last one.
        if sessions > 1 {
            Changes::of(&store).wait_for_everything().await;
        }
        for _ in 0..5 {
            let lookups = (0..50).map(|_| store.find_by_digest(record.digest()));
            for found in join_all(lookups).await {
                assert!(found.unwrap().is_some(), "{sessions}");
            }
            let inserted = (0..20).map(|_| async {
                store.insert(&write(&minted())).await.unwrap();
            });
            join_all(inserted).await;
        }
        store.close().await;
    }
}

/// Another client holds the only session. The reason is reported before the deadline.
pub(crate) async fn opening_reports_a_pooler_without_free_sessions(_: TestDatabase) {
    let (server, database) = private_database().await;
    let (_, url) = database.url();
    let settings = "pool_mode = session\ndefault_pool_size = 1";
    let pooler = Pooler::start(&server, settings).unwrap();
    let url = pooler.url_of(url);
    let store = PostgresStore::connect(&url).await.unwrap();
    store.close().await.unwrap();
    let options = (*PgPool::connect_lazy(&url).unwrap().connect_options()).clone();
    let options = options.extra_float_digits(None);
    let mut other = PgConnection::connect_with(&options).await.unwrap();
    other.execute("SELECT 1").await.unwrap();
    let started = Stopwatch::start();
    let error = PostgresStore::connect(&url).await.unwrap_err();
    let took = started.elapsed_without_stalls();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(error.kind(), OpenStoreErrorKind::Unavailable);
    let source = error.source().unwrap().to_string();
    assert!(
        source.contains("it is overloaded, or a pooler such as PgBouncer has no free session"),
        "{source}"
    );
    drop(other);
}
