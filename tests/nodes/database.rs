//! The databases of the nodes of a test, and their contents.

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
    pub(crate) fn report(&self, figures: &str) {
        let database = if self.is_postgres() {
            "postgres"
        } else {
            "sqlite"
        };
        eprintln!("  {database}: {figures}");
    }

    /// Where a process of this name finds the tokens.
    pub(crate) fn store(&self, name: &str) -> String {
        match self {
            Self::Sqlite(folder) => folder.join("tokens.db").to_str().unwrap().to_owned(),
            Self::Postgres { url, .. } => {
                let separator = if url.contains('?') { '&' } else { '?' };
                format!("{url}{separator}application_name={name}")
            }
        }
    }

    /// The tokens as a new process sees them.
    pub(crate) async fn open(&self) -> Arc<dyn TokenRegistry> {
        process_config::open(&self.store("test"), Duration::from_secs(30)).await
    }

    pub(crate) fn server(&self) -> &Arc<Postgres> {
        match self {
            Self::Sqlite(_) => panic!("SQLite has no server"),
            Self::Postgres { server, .. } => server,
        }
    }

    /// For the test's own statements.
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

/// Two numbers and a text.
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

    /// Nothing is half-written or torn, as far as the database can say.
    pub(crate) async fn check_integrity(&self) {
        if let Self::Sqlite(pool) = self {
            let check = sqlx::query_scalar("PRAGMA integrity_check");
            let found: Vec<String> = check.fetch_all(pool).await.unwrap();
            assert_eq!(found, ["ok"]);
        }
    }

    /// Waits until the server has ended what a process that is gone had begun.
    pub(crate) async fn settle(&self, name: &str) {
        if let Self::Postgres(_) = self {
            self.until(&connections(name), 0).await;
        }
    }

    /// Waits until the node of this name listens, by PostgreSQL.
    pub(crate) async fn wait_for_listener(&self, name: &str) {
        self.until(&format!("SELECT COUNT(*) {}", listener(name)), 1)
            .await;
    }

    /// How many connections the node of this name has.
    pub(crate) async fn connections(&self, name: &str) -> i64 {
        self.number(&connections(name)).await
    }

    /// Cuts the connection that the node of this name listens by; how many there were.
    pub(crate) async fn terminate_listener(&self, name: &str) -> i64 {
        let cut = format!(
            "SELECT COUNT(*) FILTER (WHERE pg_terminate_backend(pid)) {}",
            listener(name)
        );
        self.number(&cut).await
    }

    async fn until(&self, statement: &str, wanted: i64) {
        let begun = Instant::now();
        loop {
            let is = self.number(statement).await;
            if is == wanted {
                return;
            }
            assert!(
                begun.elapsed() < TIMEOUT,
                "{statement} is {is}, not {wanted}"
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

/// The listening connection has had no traffic since, except keepalives.
fn listener(name: &str) -> String {
    format!(
        "FROM pg_stat_activity WHERE datname = current_database() \
         AND application_name = '{name}' \
         AND (query LIKE 'LISTEN %' OR query = 'SELECT pg_is_in_recovery()')"
    )
}
