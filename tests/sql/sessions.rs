//! Sessions of PostgreSQL: which servers they accept, and how long their statements may take.

use std::error::Error;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};
use test_support::stall::Stopwatch;
use tower_service_token::registry::RegistryError;
use tower_service_token::store::sql::{OpenStoreErrorKind, PostgresStore};
use tower_service_token::store::{StoreError, TokenRecord};

use crate::database::{Store, TestDatabase, TestPool, minted, write};
use crate::failover_proxy::FailoverProxy;
use crate::replicas::{Replicas, TIMEOUT, cause, pause, server_of};

const DEADLINE: Duration = Duration::from_secs(1);

/// The margin for a busy machine.
const SLACK: Duration = Duration::from_secs(2);

fn source(error: &dyn Error) -> String {
    error.source().unwrap().to_string()
}

async fn connect(url: &str, target: &str) -> Result<PostgresStore, String> {
    let store = PostgresStore::connect(&format!("{url}?target_session_attrs={target}")).await;
    store.map_err(|error| {
        assert_eq!(error.kind(), OpenStoreErrorKind::Unavailable);
        let source = source(&error);
        let (_, reason) = source.split_once("database: ").unwrap();
        reason.to_owned()
    })
}

pub(crate) async fn target_session_attrs_selects_servers(_: TestDatabase) {
    let replicas = Replicas::new().await;
    let (primary, standby) = (&replicas.url, replicas.standby.url_of(&replicas.url));
    let standby = &standby;
    for (url, target) in [
        (primary, "any"),
        (primary, "primary"),
        (primary, "read-write"),
        (primary, "prefer-standby"),
        (standby, "any"),
        (standby, "standby"),
        (standby, "read-only"),
        (standby, "prefer-standby"),
    ] {
        let store = connect(url, target).await.unwrap();
        let found = store_finds(&store, &replicas).await;
        assert!(found, "{target}");
    }
    for (url, target, reason) in [
        (primary, "standby", "the server is a primary"),
        (primary, "read-only", "the server is not read-only"),
        (standby, "primary", "the server is a standby"),
        (standby, "read-write", "the server is read-only"),
    ] {
        let error = connect(url, target).await.unwrap_err();
        let expected = format!("{reason}, and target_session_attrs is {target}");
        assert_eq!(error, expected);
    }
}

async fn store_finds(store: &PostgresStore, replicas: &Replicas) -> bool {
    let store = Store::Postgres(store.clone());
    let found = store.find_by_digest(replicas.record.digest()).await;
    found.unwrap().is_some()
}

pub(crate) async fn primary_target_rejects_a_standby(_: TestDatabase) {
    let replicas = Replicas::with(async |url| connect(&url, "primary").await.unwrap()).await;
    let lookup = async || {
        replicas
            .store
            .find_by_digest(replicas.record.digest())
            .await
    };
    assert!(lookup().await.unwrap().is_some());
    replicas.name.move_to(replicas.standby.address());
    replicas.name.cut();
    let rejected = "error communicating with database: the server is a standby, and \
         target_session_attrs is primary";
    assert_eq!(source(&lookup().await.unwrap_err()), rejected);
    assert_eq!(cause(&replicas.change().await.unwrap_err()), rejected);
    replicas.name.move_to(replicas.primary.address());
    replicas.recovers().await;
    assert!(lookup().await.unwrap().is_some());
}

pub(crate) async fn changes_work_with_a_read_only_default(database: TestDatabase) {
    let (_, url) = database.url();
    let (_, name) = url.rsplit_once('/').unwrap();
    let name = name.split('?').next().unwrap();
    let statement = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    database.run(&statement).await;
    let store = database.open().await;
    store.insert(&write(&minted())).await.unwrap();
    store.check_writable().await.unwrap();
    if !url.contains('?') {
        connect(url, "read-only").await.unwrap();
        connect(url, "primary").await.unwrap();
        let error = connect(url, "read-write").await.unwrap_err();
        assert!(error.starts_with("the server is read-only"), "{error}");
    }
}

/// A store with a deadline, and a connection of its database's that holds a lock.
pub(crate) async fn locked(database: &TestDatabase, lock: &str) -> (Store, PgConnection) {
    let (_, url) = database.url();
    let mut holder = PgConnection::connect(url).await.unwrap();
    holder.execute("BEGIN").await.unwrap();
    let lock = sqlx::raw_sql(sqlx::AssertSqlSafe(lock.to_owned()));
    lock.execute(&mut holder).await.unwrap();
    let store = PostgresStore::connect(url).await.unwrap();
    (Store::Postgres(store).with_deadline(DEADLINE), holder)
}

/// Waits until no statement waits for a lock; how long that takes.
async fn nothing_waits(database: &TestDatabase) -> Duration {
    const WAITING: &str = "SELECT COUNT(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event_type = 'Lock'";

    let pool = database.pool(1).await;
    let begun = Stopwatch::start();
    while pool.number(WAITING).await != 0 {
        assert!(
            begun.elapsed_without_stalls() < Duration::from_secs(60),
            "a statement still waits"
        );
        pause().await;
    }
    begun.elapsed_without_stalls()
}

pub(crate) async fn lock_waits_end_before_the_deadline(database: TestDatabase) {
    let record = minted();
    database.open().await.insert(&write(&record)).await.unwrap();
    let (store, holder) = locked(&database, "SELECT 1 FROM service_tokens FOR UPDATE").await;
    let begun = Stopwatch::start();
    let refused = store.update(&write(&record)).await.unwrap_err();
    let took = begun.elapsed_without_stalls();
    assert!(took < DEADLINE + SLACK, "{took:?}");
    let expected = "canceling statement due to lock timeout (SQLSTATE 55P03)";
    assert_eq!(cause(&refused), expected);
    let took = nothing_waits(&database).await;
    assert!(took < SLACK, "{took:?}");
    holder.close().await.unwrap();
    store.update(&write(&record)).await.unwrap();
}

/// The caller is dropped during an operation, as when a client disconnects.
pub(crate) async fn abandoned_operations_end_on_the_server(database: TestDatabase) {
    /// Of a connection: the longest deadline that the store had, and 500 ms.
    const BOUND: Duration = Duration::from_millis(3500);

    let record = minted();
    database.open().await.insert(&write(&record)).await.unwrap();
    let (store, holder) = locked(&database, "LOCK TABLE service_tokens").await;
    let begun = Stopwatch::start();
    let change = write(&record);
    let lookup = store.find_by_digest(record.digest());
    let both = futures::future::join(store.update(&change), lookup);
    let abandoned = tokio::time::timeout(DEADLINE / 2, both).await;
    assert!(abandoned.is_err(), "nothing waited for the lock");
    let late = store.find_by_digest(record.digest()).await.unwrap_err();
    assert_eq!(source(&late), "timed out");
    nothing_waits(&database).await;
    let took = begun.elapsed_without_stalls();
    assert!(took < DEADLINE / 2 + BOUND + SLACK, "{took:?}");
    holder.close().await.unwrap();
    let found: Result<_, StoreError> = store.find_by_digest(record.digest()).await;
    assert!(found.unwrap().is_some());
    let changed: Result<_, RegistryError> = store.update(&change).await;
    changed.unwrap();
}

pub(crate) async fn write_checks_change_no_token(database: TestDatabase) {
    let store = database.open().await;
    let record = minted();
    store.insert(&write(&record)).await.unwrap();
    let pool: TestPool = database.pool(1).await;
    for _ in 0..3 {
        store.check_writable().await.unwrap();
    }
    let known = store.get(record.id()).await.unwrap().unwrap();
    assert_eq!(known.revision(), record.revision());
    let version = "SELECT version FROM service_token_schema";
    let before = pool.number(version).await;
    store.check_writable().await.unwrap();
    assert_eq!(pool.number(version).await, before);
}

/// How many events of the token there are in the audit trail.
async fn events(store: &Store, record: &TokenRecord) -> usize {
    store
        .audit_trail(Some(record.id()), 10)
        .await
        .unwrap()
        .len()
}

pub(crate) async fn retries_changes_of_terminated_sessions_once(database: TestDatabase) {
    const END: &str = "SELECT COUNT(*) FILTER (WHERE pg_terminate_backend(pid)) \
         FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

    let record = minted();
    database.open().await.insert(&write(&record)).await.unwrap();
    let (store, holder) = locked(&database, "SELECT 1 FROM service_tokens FOR UPDATE").await;
    let store = store.keep_audit_trail().with_deadline(TIMEOUT);
    let change = tokio::spawn({
        let (store, record) = (store.clone(), record.clone());
        async move { store.update(&write(&record)).await.map(drop) }
    });
    let pool = database.pool(1).await;
    let begun = Stopwatch::start();
    while pool.number(END).await == 0 {
        assert!(
            begun.elapsed_without_stalls() < TIMEOUT,
            "the change does not wait"
        );
        pause().await;
    }
    holder.close().await.unwrap();
    change.await.unwrap().unwrap();
    let known = store.get(record.id()).await.unwrap().unwrap();
    assert_eq!(known.revision(), record.revision() + 1);
    assert_eq!(events(&store, &record).await, 1);
}

pub(crate) async fn unanswered_commits_are_not_retried(database: TestDatabase) {
    let (_, url) = database.url();
    let name = FailoverProxy::start(server_of(url)).await;
    let store = PostgresStore::connect(&name.url(url)).await.unwrap();
    let store = Store::Postgres(store).keep_audit_trail();
    let record = minted();
    name.lose_commits(true);
    let cause = cause(&store.insert(&write(&record)).await.unwrap_err());
    let expected = "the outcome of the change is unknown: ";
    assert!(cause.starts_with(expected), "{cause}");
    name.lose_commits(false);
    let begun = Stopwatch::start();
    while store.get(record.id()).await.unwrap().is_none() {
        assert!(
            begun.elapsed_without_stalls() < TIMEOUT,
            "the commit was lost"
        );
        pause().await;
    }
    assert_eq!(events(&store, &record).await, 1);
}

/// The commit does not reach the server, and the store does not know that.
pub(crate) async fn deadline_during_commit_reports_unknown_outcome(database: TestDatabase) {
    let (_, url) = database.url();
    let name = FailoverProxy::start(server_of(url)).await;
    let store = PostgresStore::connect(&name.url(url)).await.unwrap();
    let store = Store::Postgres(store).with_deadline(DEADLINE);
    name.hold_commits(true);
    let begun = Stopwatch::start();
    let late = store.insert(&write(&minted())).await.unwrap_err();
    let took = begun.elapsed_without_stalls();
    assert!(took < DEADLINE + SLACK, "{took:?}");
    let expected = "the outcome of the change is unknown: timed out";
    assert_eq!(cause(&late), expected);
    name.hold_commits(false);
    store.insert(&write(&minted())).await.unwrap();
}
