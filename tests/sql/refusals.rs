//! Servers that refuse connections. Opening a store and each operation report the reason without waiting
//! for the deadline.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use test_support::port::ReservedPort;
use test_support::postgres::{Postgres, Stop};
use test_support::stall::Stopwatch;
use tower_service_token::registry::RegistryError;
use tower_service_token::store::sql::{OpenStoreErrorKind, PostgresStore};
use tower_service_token::store::{FeedStatus, StoreError, StoreErrorKind};

use crate::database::{Changes, Server, Store, TestDatabase, minted, write};

const PASSWORD: &str = "hunter2";

/// The maximum time of a rejection, much less than the deadline of an operation and of opening a store.
const MAX_LATENCY: Duration = Duration::from_millis(1500);

const REFUSED: &str = "Connection refused";

/// Asserts that opening a store fails promptly for this reason.
async fn assert_not_opened(url: &str, reason: &str) {
    let started = Stopwatch::start();
    let error = PostgresStore::connect(url).await.expect_err(url);
    let elapsed = started.elapsed_without_stalls();
    assert!(elapsed < MAX_LATENCY, "{url}: {elapsed:?}");
    assert_eq!(error.kind(), OpenStoreErrorKind::Unavailable, "{url}");
    let source = error.source().unwrap().to_string();
    assert!(source.contains(reason), "{url}: {source}");
    let text = format!("{error:?} {error} {source}");
    assert!(!text.contains(PASSWORD), "{text}");
}

fn with_login(url: &str, login: &str) -> String {
    let (_, rest) = url.split_once('@').unwrap();
    format!("postgres://{login}@{rest}")
}

pub(crate) async fn opening_reports_why_the_server_refuses_connections(_: TestDatabase) {
    let port = ReservedPort::new();
    let unreachable = format!("postgres://tokens:{PASSWORD}@{}/t", port.address());
    assert_not_opened(&unreachable, REFUSED).await;

    let server = Arc::new(Postgres::private().unwrap());
    let database = TestDatabase::postgres(Server(Arc::clone(&server)));
    let database = database.create().await;
    let (_, url) = database.url();
    server
        .add_access_rule("host all locked 127.0.0.1/32 scram-sha-256\nhost all banned all reject")
        .await;
    server
        .run(
            "CREATE ROLE locked LOGIN PASSWORD 'another'; CREATE ROLE banned LOGIN; \
             CREATE ROLE zero LOGIN CONNECTION LIMIT 0",
        )
        .await;
    let missing = format!("{url}_missing");
    for (url, reason) in [
        (
            with_login(url, &format!("locked:{PASSWORD}")),
            "(SQLSTATE 28P01)",
        ),
        (
            with_login(url, &format!("banned:{PASSWORD}")),
            "(SQLSTATE 28000)",
        ),
        (
            with_login(url, &format!("nobody:{PASSWORD}")),
            "(SQLSTATE 28000)",
        ),
        (
            with_login(url, &format!("zero:{PASSWORD}")),
            "(SQLSTATE 53300)",
        ),
        (
            with_login(&missing, &format!("tokens:{PASSWORD}")),
            "(SQLSTATE 3D000)",
        ),
    ] {
        assert_not_opened(&url, reason).await;
    }
}

/// Asserts that every operation fails promptly for this reason.
async fn assert_unavailable(store: &Store, reason: &str) {
    let assert_fails = async |outcome: Result<(), RegistryError>, started: Stopwatch| {
        let elapsed = started.elapsed_without_stalls();
        assert!(elapsed < MAX_LATENCY, "{elapsed:?}");
        let Err(RegistryError::Store(error)) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        let source = error.source().unwrap().to_string();
        assert!(source.contains(reason), "{source}");
        assert!(!format!("{error:?}").contains(PASSWORD));
    };
    let record = minted();
    let lookups = (0..20).map(|_| async {
        let started = Stopwatch::start();
        let found = store.find_by_digest(record.digest()).await;
        assert_fails(found.map(drop).map_err(StoreError::into), started).await;
    });
    join_all(lookups).await;
    let started = Stopwatch::start();
    assert_fails(store.insert(&write(&record)).await, started).await;
}

pub(crate) async fn operations_report_why_the_server_refuses_connections(_: TestDatabase) {
    let server = Arc::new(Postgres::private().unwrap());
    let database = TestDatabase::postgres(Server(Arc::clone(&server)));
    let database = database.create().await;
    let (_, url) = database.url();
    server.run("CREATE ROLE few LOGIN SUPERUSER").await;
    let url = with_login(url, &format!("few:{PASSWORD}"));
    let open = async || Store::Postgres(PostgresStore::connect(&url).await.unwrap());
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(5);
    let pool = pool.idle_timeout(None).max_lifetime(None);
    let pool = pool.connect(&url).await.unwrap();
    let pooled = PostgresStore::with_pool(pool).await.unwrap();
    let stores = [open().await, Store::Postgres(pooled)];

    server.run("ALTER ROLE few NOLOGIN").await;
    server.kill_connections(database.url().1).await;
    for store in &stores {
        assert_unavailable(store, "(SQLSTATE 28000)").await;
    }
    server
        .run("ALTER ROLE few LOGIN NOSUPERUSER CONNECTION LIMIT 0")
        .await;
    server.kill_connections(database.url().1).await;
    for store in &stores {
        assert_unavailable(store, "(SQLSTATE 53300)").await;
    }
    server
        .run("ALTER ROLE few SUPERUSER CONNECTION LIMIT -1")
        .await;
    for store in &stores {
        assert!(store.get(minted().id()).await.unwrap().is_none());
    }
    let (stopping, stopped) = (Arc::clone(&server), Stop::Fast);
    let stop = tokio::task::spawn_blocking(move || stopping.stop(stopped));
    stop.await.unwrap();
    for store in &stores {
        assert_unavailable(store, REFUSED).await;
    }
    let starting = Arc::clone(&server);
    tokio::task::spawn_blocking(move || starting.start())
        .await
        .unwrap();
    for store in &stores {
        assert!(store.get(minted().id()).await.unwrap().is_none());
    }
}

/// Opens a store as a role that may have this many connections.
async fn open_limited(database: &TestDatabase, slots: usize) -> Store {
    let (server, url) = database.url();
    let role = url.rsplit('/').next().unwrap();
    let name = role.split('?').next().unwrap();
    server
        .run(&format!(
            "CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT {slots}"
        ))
        .await;
    server
        .run(&format!("ALTER DATABASE {name} OWNER TO {name}"))
        .await;
    server.run(&format!("GRANT {name} TO CURRENT_USER")).await;
    database
        .run(&format!("GRANT ALL ON SCHEMA public TO {name}"))
        .await;
    let url = with_login(url, &format!("{name}:{PASSWORD}"));
    Store::Postgres(PostgresStore::connect(&url).await.unwrap())
}

async fn drop_role(database: TestDatabase) {
    let (server, url) = database.url();
    let name = url
        .rsplit('/')
        .next()
        .unwrap()
        .split('?')
        .next()
        .unwrap()
        .to_owned();
    server.drop_database(url).await;
    server.run(&format!("DROP ROLE {name}")).await;
}

pub(crate) async fn fewer_slots_than_connections_are_not_an_error(database: TestDatabase) {
    let store = open_limited(&database, 2).await;
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    for _ in 0..5 {
        let lookups = (0..50).map(|_| store.find_by_digest(record.digest()));
        for found in join_all(lookups).await {
            assert!(found.unwrap().is_some());
        }
        let inserted = join_all((0..20).map(|_| async {
            store.insert(&write(&minted())).await.unwrap();
        }));
        inserted.await;
    }
    store.close().await;
    drop_role(database).await;
}

/// The change feed gets a slot although the pool has used all of them.
pub(crate) async fn pool_releases_a_slot_for_the_feed(database: TestDatabase) {
    let store = open_limited(&database, 3).await;
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    let lookups = async || {
        let lookups = (0..50).map(|_| store.find_by_digest(record.digest()));
        for found in join_all(lookups).await {
            assert!(found.unwrap().is_some());
        }
    };
    lookups().await;
    let changes = Changes::of(&store);
    changes.wait_for_everything().await;
    assert_eq!(store.feed_status(), FeedStatus::Connected);
    lookups().await;
    store.close().await;
    drop_role(database).await;
}

pub(crate) async fn uses_at_most_the_configured_connections(database: TestDatabase) {
    let (_, url) = database.url();
    for connections in [1, 3, 20] {
        let store = PostgresStore::connect(url).await.unwrap();
        let store = store
            .with_max_connections(connections)
            .with_deadline(Duration::from_secs(60));
        let reads = (0..100).map(|_| store.state());
        for state in join_all(reads).await {
            state.unwrap();
        }
        let pool = database.pool(1).await;
        let used = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND query LIKE 'SELECT store_id%'";
        let used = pool.number(used).await;
        assert!(used <= i64::from(connections), "{used} of {connections}");
        assert!(used > i64::from(connections) / 2, "{used} of {connections}");
        pool.close().await;
        store.close().await.unwrap();
    }
}
