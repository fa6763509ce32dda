//! Sessions of PostgreSQL: the servers that they accept, and the time limits of their statements.

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
        let found = finds_the_token(&store, &replicas).await;
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

async fn finds_the_token(store: &PostgresStore, replicas: &Replicas) -> bool {
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
    replicas.proxy.move_to(replicas.standby.address());
    replicas.proxy.cut();
    let rejected = "error communicating with database: the server is a standby, and \
         target_session_attrs is primary";
    assert_eq!(source(&lookup().await.unwrap_err()), rejected);
    assert_eq!(cause(&replicas.change().await.unwrap_err()), rejected);
    replicas.proxy.move_to(replicas.primary.address());
    replicas.wait_for_recovery().await;
    assert!(lookup().await.unwrap().is_some());
}

pub(crate) async fn changes_succeed_with_a_read_only_default(database: TestDatabase) {
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

/// Returns a store with a deadline, and a connection to its database that holds a lock.
pub(crate) async fn locked(database: &TestDatabase, lock: &str) -> (Store, PgConnection) {
    let (_, url) = database.url();
    let mut lock_holder = PgConnection::connect(url).await.unwrap();
    lock_holder.execute("BEGIN").await.unwrap();
    let lock = sqlx::raw_sql(sqlx::AssertSqlSafe(lock.to_owned()));
    lock.execute(&mut lock_holder).await.unwrap();
    let store = PostgresStore::connect(url).await.unwrap();
    (Store::Postgres(store).with_deadline(DEADLINE), lock_holder)
}

/// Waits until no statement waits for a lock. Returns the time that this takes.
async fn wait_for_lock_waits_to_end(database: &TestDatabase) -> Duration {
    const WAITING: &str = "SELECT COUNT(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event_type = 'Lock'";

    let pool = database.pool(1).await;
    let started = Stopwatch::start();
    while pool.number(WAITING).await != 0 {
        assert!(
            started.elapsed_without_stalls() < Duration::from_secs(60),
            "a statement still waits"
        );
        pause().await;
    }
    started.elapsed_without_stalls()
}

pub(crate) async fn lock_waits_end_before_the_deadline(database: TestDatabase) {
    let record = minted();
    database.open().await.insert(&write(&record)).await.unwrap();
    let (store, lock_holder) = locked(&database, "SELECT 1 FROM service_tokens FOR UPDATE").await;
    let started = Stopwatch::start();
    let rejected = store.update(&write(&record)).await.unwrap_err();
    let elapsed = started.elapsed_without_stalls();
    assert!(elapsed < DEADLINE + SLACK, "{elapsed:?}");
    let expected = "canceling statement due to lock timeout (SQLSTATE 55P03)";
    assert_eq!(cause(&rejected), expected);
    let elapsed = wait_for_lock_waits_to_end(&database).await;
    assert!(elapsed < SLACK, "{elapsed:?}");
    lock_holder.close().await.unwrap();
    store.update(&write(&record)).await.unwrap();
}

/// A caller drops the future of an operation, for example because its client has disconnected.
pub(crate) async fn cancelled_operations_end_on_the_server(database: TestDatabase) {
    /// The limit of a connection: the longest deadline that the store had, plus 500 ms.
    const STATEMENT_LIMIT: Duration = Duration::from_millis(3500);

    let record = minted();
    database.open().await.insert(&write(&record)).await.unwrap();
    let (store, lock_holder) = locked(&database, "LOCK TABLE service_tokens").await;
    let started = Stopwatch::start();
    let change = write(&record);
    let lookup = store.find_by_digest(record.digest());
    let both = futures::future::join(store.update(&change), lookup);
    let timed_out = tokio::time::timeout(DEADLINE / 2, both).await;
    assert!(
        timed_out.is_err(),
        "the operations did not wait for the lock"
    );
    let late = store.find_by_digest(record.digest()).await.unwrap_err();
    assert_eq!(source(&late), "timed out");
    wait_for_lock_waits_to_end(&database).await;
    let elapsed = started.elapsed_without_stalls();
    assert!(
        elapsed < DEADLINE / 2 + STATEMENT_LIMIT + SLACK,
        "{elapsed:?}"
    );
    lock_holder.close().await.unwrap();
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
    let stored = store.get(record.id()).await.unwrap().unwrap();
    assert_eq!(stored.revision(), record.revision());
    let version = "SELECT version FROM service_token_schema";
    let before = pool.number(version).await;
    store.check_writable().await.unwrap();
    assert_eq!(pool.number(version).await, before);
}

/// Returns the number of audit events of the token.
async fn count_events(store: &Store, record: &TokenRecord) -> usize {
    store
        .audit_trail(Some(record.id()), 10)
        .await
        .unwrap()
        .len()
}

pub(crate) async fn retries_changes_of_terminated_sessions_once(database: TestDatabase) {
    const TERMINATE: &str = "SELECT COUNT(*) FILTER (WHERE pg_terminate_backend(pid)) \
         FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

    let record = minted();
    database.open().await.insert(&write(&record)).await.unwrap();
    let (store, lock_holder) = locked(&database, "SELECT 1 FROM service_tokens FOR UPDATE").await;
    let store = store.keep_audit_trail().with_deadline(TIMEOUT);
    let change = tokio::spawn({
        let (store, record) = (store.clone(), record.clone());
        async move { store.update(&write(&record)).await.map(drop) }
    });
    let pool = database.pool(1).await;
    let started = Stopwatch::start();
    while pool.number(TERMINATE).await == 0 {
        assert!(
            started.elapsed_without_stalls() < TIMEOUT,
            "the change does not wait"
        );
        pause().await;
    }
    lock_holder.close().await.unwrap();
    change.await.unwrap().unwrap();
    let stored = store.get(record.id()).await.unwrap().unwrap();
    assert_eq!(stored.revision(), record.revision() + 1);
    assert_eq!(count_events(&store, &record).await, 1);
}

pub(crate) async fn commits_without_a_response_are_not_retried(database: TestDatabase) {
    let (_, url) = database.url();
    let proxy = FailoverProxy::start(server_of(url)).await;
    let store = PostgresStore::connect(&proxy.url(url)).await.unwrap();
    let store = Store::Postgres(store).keep_audit_trail();
    let record = minted();
    proxy.lose_commits(true);
    let cause = cause(&store.insert(&write(&record)).await.unwrap_err());
    let expected = "the outcome of the change is unknown: ";
    assert!(cause.starts_with(expected), "{cause}");
    proxy.lose_commits(false);
    let started = Stopwatch::start();
    while store.get(record.id()).await.unwrap().is_none() {
        assert!(
            started.elapsed_without_stalls() < TIMEOUT,
            "the commit was lost"
        );
        pause().await;
    }
    assert_eq!(count_events(&store, &record).await, 1);
}

/// The commit does not reach the server, but the store cannot detect that.
pub(crate) async fn deadline_during_commit_reports_unknown_outcome(database: TestDatabase) {
    let (_, url) = database.url();
    let proxy = FailoverProxy::start(server_of(url)).await;
    let store = PostgresStore::connect(&proxy.url(url)).await.unwrap();
    let store = Store::Postgres(store).with_deadline(DEADLINE);
    proxy.hold_commits(true);
    let started = Stopwatch::start();
    let late = store.insert(&write(&minted())).await.unwrap_err();
    let elapsed = started.elapsed_without_stalls();
    assert!(elapsed < DEADLINE + SLACK, "{elapsed:?}");
    let expected = "the outcome of the change is unknown: timed out";
    assert_eq!(cause(&late), expected);
    proxy.hold_commits(false);
    store.insert(&write(&minted())).await.unwrap();
}
