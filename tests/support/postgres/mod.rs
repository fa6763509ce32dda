//! A PostgreSQL server for tests: either the one at `DATABASE_URL`, or a private cluster that is
//! created with the installed binaries and ends with the test process.
//!
//! 1. [`Postgres::shared`] uses `DATABASE_URL` if it is set, or else a private cluster. The user in
//!    the URL must be allowed to create databases.
//! 2. [`Postgres::private`] can be stopped, suspended and started again, and syncs its commits.
//! 3. PostgreSQL refuses to run as root. If this process is root, an unprivileged user runs the
//!    server with `setpriv`.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

mod cluster;
mod pooler;
mod replication;

use self::cluster::Cluster;
pub use self::pooler::Pooler;

pub struct Postgres {
    /// The URL of the server. A database's URL is `<server>/<database><query>`.
    server: String,
    query: String,
    admin: String,
    cluster: Option<Cluster>,
}

/// The way in which a server stops.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// Closes connections and writes all commits.
    Fast,
    /// Stops like a crash, so that the next start recovers from the log.
    Immediate,
}

impl Postgres {
    /// Returns a server that tests share. Each test has its own [database](Self::create_database).
    ///
    /// # Errors
    ///
    /// Returns the reason why no server is available.
    pub fn shared() -> Result<Self, String> {
        match env::var("DATABASE_URL") {
            Ok(url) if url.starts_with("postgres") => Ok(Self::at(&url)),
            _ => Self::private(),
        }
    }

    /// Starts a server for one test, which may stop it.
    ///
    /// # Errors
    ///
    /// Returns an error if the binaries are not installed or do not work here.
    pub fn private() -> Result<Self, String> {
        let cluster = Cluster::new()?;
        cluster.initialize()?;
        Self::run_by(cluster)
    }

    /// Starts a server like [`private`](Self::private) that allows this many connections instead of 200.
    ///
    /// # Errors
    ///
    /// Returns an error if the binaries are not installed or do not work here.
    pub fn private_with_connections(connections: u32) -> Result<Self, String> {
        let mut cluster = Cluster::new()?;
        cluster.max_connections = connections;
        cluster.initialize()?;
        Self::run_by(cluster)
    }

    fn run_by(cluster: Cluster) -> Result<Self, String> {
        cluster.start()?;
        let server = format!("postgres://tokens@{}", cluster.port.address());
        Ok(Self {
            admin: format!("{server}/postgres"),
            server,
            query: String::new(),
            cluster: Some(cluster),
        })
    }

    fn at(url: &str) -> Self {
        let (base, query) = match url.split_once('?') {
            Some((base, query)) => (base, format!("?{query}")),
            None => (url, String::new()),
        };
        let authority = base.find("://").map_or(0, |at| at + 3);
        let server = match base[authority..].find('/') {
            Some(slash) => &base[..authority + slash],
            None => base,
        };
        Self {
            server: server.to_owned(),
            query,
            admin: url.to_owned(),
            cluster: None,
        }
    }

    /// Creates an empty database and returns its URL.
    pub async fn create_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("svctok_{}_{number}", std::process::id());
        self.run(&format!("CREATE DATABASE {name}")).await;
        format!("{}/{name}{}", self.server, self.query)
    }

    /// Removes a database even if clients are connected to it.
    pub async fn drop_database(&self, url: &str) {
        let name = database_of(url);
        self.run(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .await;
    }

    /// Closes every connection to a database, as an operator or a failover does.
    pub async fn kill_connections(&self, url: &str) {
        let name = database_of(url);
        self.run(&format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
        ))
        .await;
    }

    /// Runs a statement as the server's owner, outside of any test's database.
    pub async fn run(&self, statement: &str) {
        let mut connection = PgConnection::connect(&self.admin).await.unwrap();
        let query = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
        query.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Inserts a line at the start of `pg_hba.conf`, and makes the server reload the file soon.
    pub async fn add_access_rule(&self, line: &str) {
        let path = self.cluster().data().join("pg_hba.conf");
        let rules = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{line}\n{rules}")).unwrap();
        self.run("SELECT pg_reload_conf()").await;
    }

    pub fn stop(&self, mode: Stop) {
        self.cluster().stop(mode);
    }

    /// Starts the server again on the same port.
    pub fn start(&self) {
        self.cluster().start().unwrap();
    }

    /// Suspends all processes of the server until it is [resumed](Self::resume). Connections stay
    /// open, but the server does not respond.
    pub fn suspend(&self) {
        self.cluster().signal("STOP");
    }

    pub fn resume(&self) {
        self.cluster().signal("CONT");
    }

    /// Returns the CPU time that the processes of the server have used so far. Linux only.
    pub fn cpu_time(&self) -> Duration {
        let pids = self.cluster().processes();
        let nanoseconds = pids.iter().filter_map(|pid| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("a private server")
    }
}

/// Resumes the server when dropped. A suspended server cannot be stopped.
pub struct SuspendedServer(Arc<Postgres>);

impl SuspendedServer {
    /// Suspends the server until the value is dropped.
    pub async fn suspend(server: &Arc<Postgres>) -> Self {
        on_blocking_thread(server, Postgres::suspend).await;
        Self(Arc::clone(server))
    }
}

impl Drop for SuspendedServer {
    fn drop(&mut self) {
        self.0.resume();
    }
}

/// Runs work that blocks, such as stopping the server.
pub async fn on_blocking_thread<T: Send + 'static>(
    server: &Arc<Postgres>,
    work: impl FnOnce(&Postgres) -> T + Send + 'static,
) -> T {
    let server = Arc::clone(server);
    tokio::task::spawn_blocking(move || work(&server))
        .await
        .unwrap()
}

fn database_of(url: &str) -> &str {
    let base = url.split('?').next().unwrap();
    base.rsplit('/').next().unwrap()
}
