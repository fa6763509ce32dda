//! The database that the nodes of a test share, and its contents.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use test_support::postgres::Postgres;
use tower_service_token::registry::TokenRegistry;

use crate::node::{TIMEOUT, pause};
use crate::process_config;

/// An empty database.
#[derive(Clone)]
pub(crate) enum TestDatabase {
    Sqlite(PathBuf),
    Postgres { server: Arc<Postgres>, url: String },
}

impl TestDatabase {
    pub(crate) fn sqlite() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("svctok-nodes-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self::Sqlite(folder)
    }

    pub(crate) async fn postgres(server: Arc<Postgres>) -> Self {
        let url = server.create_database().await;
        Self::Postgres { server, url }
    }

    pub(crate) async fn remove(self) {
        match self {
            Self::Sqlite(folder) => fs::remove_dir_all(folder).unwrap(),
            Self::Postgres { server, url } => server.drop_database(&url).await,
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    /// Prints a measurement.
    pub(crate) fn report(&self, measurement: &str) {
        let database = if self.is_postgres() {
            "postgres"
        } else {
            "sqlite"
        };
        eprintln!("  {database}: {measurement}");
    }

    /// The file or URL of the database, for a process with this name.
    pub(crate) fn store(&self, name: &str) -> String {
        match self {
            Self::Sqlite(folder) => folder.join("tokens.db").to_str().unwrap().to_owned(),
            Self::Postgres { url, .. } => {
                let separator = if url.contains('?') { '&' } else { '?' };
                format!("{url}{separator}application_name={name}")
            }
        }
    }

    /// Opens the store as a new process would.
    pub(crate) async fn open(&self) -> Arc<dyn TokenRegistry> {
        process_config::open(&self.store("test"), Duration::from_secs(30)).await
    }

    pub(crate) fn server(&self) -> &Arc<Postgres> {
        match self {
            Self::Sqlite(_) => panic!("SQLite has no server"),
            Self::Postgres { server, .. } => server,
        }
    }

    /// Opens a connection for the statements of the test itself.
    pub(crate) async fn tables(&self) -> Tables {
        match self {
            Self::Sqlite(_) => {
                let options = SqliteConnectOptions::new().filename(self.store("test"));
                let pool = SqlitePoolOptions::new().max_connections(1);
                let pool = pool.idle_timeout(None).max_lifetime(None);
                Tables::Sqlite(pool.connect_with(options).await.unwrap())
            }
            Self::Postgres { .. } => {
                let pool = PgPoolOptions::new().max_connections(1);
                let pool = pool.idle_timeout(None).max_lifetime(None);
                Tables::Postgres(pool.connect(&self.store("test")).await.unwrap())
            }
        }
    }
}

/// One connection to the database.
pub(crate) enum Tables {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// Two integers and a string.
pub(crate) type Row = (i64, i64, String);

impl Tables {
    pub(crate) async fn rows(&self, statement: &str) -> Vec<Row> {
        let statement = AssertSqlSafe(statement.to_owned());
        match self {
            Self::Sqlite(pool) => sqlx::query_as(statement).fetch_all(pool).await.unwrap(),
            Self::Postgres(pool) => sqlx::query_as(statement).fetch_all(pool).await.unwrap(),
        }
    }

    async fn number(&self, statement: &str) -> i64 {
        let statement = AssertSqlSafe(statement.to_owned());
        match self {
            Self::Sqlite(pool) => sqlx::query_scalar(statement).fetch_one(pool).await.unwrap(),
            Self::Postgres(pool) => sqlx::query_scalar(statement).fetch_one(pool).await.unwrap(),
        }
    }

    /// Runs the integrity check of SQLite. PostgreSQL has no equivalent statement.
    pub(crate) async fn check_integrity(&self) {
        if let Self::Sqlite(pool) = self {
            let check = sqlx::query_scalar("PRAGMA integrity_check");
            let problems: Vec<String> = check.fetch_all(pool).await.unwrap();
            assert_eq!(problems, ["ok"]);
        }
    }

    /// Waits until the server has closed the connections of a killed process.
    pub(crate) async fn wait_until_disconnected(&self, name: &str) {
        if let Self::Postgres(_) = self {
            self.wait_until_equal(&connections(name), 0).await;
        }
    }

    /// Waits until PostgreSQL shows a listening connection of the node with this name.
    pub(crate) async fn wait_for_listener(&self, name: &str) {
        self.wait_until_equal(
            &format!("SELECT COUNT(*) {}", listening_connections(name)),
            1,
        )
        .await;
    }

    /// Returns how many connections the node with this name has open.
    pub(crate) async fn connections(&self, name: &str) -> i64 {
        self.number(&connections(name)).await
    }

    /// Closes the listening connections of the node with this name and returns how many it closed.
    pub(crate) async fn terminate_listener(&self, name: &str) -> i64 {
        let statement = format!(
            "SELECT COUNT(*) FILTER (WHERE pg_terminate_backend(pid)) {}",
            listening_connections(name)
        );
        self.number(&statement).await
    }

    async fn wait_until_equal(&self, statement: &str, expected: i64) {
        let started = Instant::now();
        loop {
            let actual = self.number(statement).await;
            if actual == expected {
                return;
            }
            assert!(
                started.elapsed() < TIMEOUT,
                "{statement} is {actual}, expected {expected}"
            );
            pause().await;
        }
    }
}

fn connections(name: &str) -> String {
    format!(
        "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name = '{name}'"
    )
}

/// The last statement of a listening connection is `LISTEN` or its keepalive query.
fn listening_connections(name: &str) -> String {
    format!(
        "FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name = '{name}' \
         AND (query LIKE 'LISTEN %' OR query = 'SELECT pg_is_in_recovery()')"
    )
}
