mod backend;
mod connection;
mod dialect;
mod limit;
mod listen;
mod pooler;
mod probe;
mod server_health;
mod target_session;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgPool, PgPoolOptions};

use self::backend::Postgres;
use self::limit::ConnectionLimit;
use self::listen::Connector;
use self::probe::ConnectProbe;
use self::server_health::ServerHealth;
use self::target_session::TargetSessionAttrs;
use super::open_error::OpenStoreError;
use super::store::SqlStore;

/// Stores tokens in PostgreSQL 12 or newer, for services with several nodes.
///
/// - **Durable.** An acknowledged change is as durable as the server makes commits.
/// - **Several nodes.** Each node learns of the others' changes at once, by `LISTEN`. While that
///   connection is down, caches serve entries until they expire. When it is back,
///   [subscribers](crate::TokenStore::subscribe) are notified that anything may have changed.
/// - **No secrets.** The tables contain digests and records, never a token.
/// - **Deadlines.** Every operation ends by a [deadline](SqlStore::with_deadline). If the database does
///   not answer, the store is unavailable, and recovers with the server. The server ends an operation
///   by itself if this process is gone: one that waits for a lock after 0.9 times the deadline, any
///   other statement 500 ms after it.
/// - **Failover.** Connections follow the host name of the server. The store suspects all open
///   connections when one of them fails, stays silent for 500 ms after another missed its deadline, or
///   leads to a read-only server while a new connection does not. A suspect connection is closed before
///   it is used again. An operation whose connection failed before its commit was sent is retried once.
///   A change whose commit got no response is not retried; its error says that the outcome is unknown.
/// - **Limits.** An index entry has a maximum size: names, subjects, roles, scopes and labels of more
///   than about 2,000 bytes are rejected.
/// - **Refusals.** If the server refuses connections, has no free slot or rejects the login, operations
///   fail with that reason after about 200 ms rather than at the deadline.
/// - **Poolers.** A pooler in session mode works, such as `PgBouncer`, with at least two sessions for each
///   process. Give each process one session more than its
///   [connections](SqlStore::with_max_connections), for the change feed. With fewer sessions, at least
///   two, the store works, but an operation may wait 0.7 s before it falls back to a connection in use.
///   A pooler that shares sessions between clients, as in transaction mode, is rejected when the
///   store is opened: prepared statements and `LISTEN` do not work with it.
/// - **Encryption.** Connections use TLS with the feature `rustls`, according to the URL's `sslmode`.
///
/// Notifications contain digests, and every role that may connect to the database may listen to them.
/// The digest of a token of this crate's [format](crate::token::TokenFormat) reveals nothing. That of
/// an imported token is as safe as the token is random.
///
/// Clones share the connections. A store belongs to the Tokio runtime that it was opened in.
///
/// # Examples
///
/// ```no_run
/// use tower_service_token::store::sql::PostgresStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresStore::connect("postgres://service@localhost/tokens").await?;
/// # Ok(())
/// # }
/// ```
///
/// # Schema
///
/// The tables are named `service_token…`. Opening a store creates them in the first schema of the
/// `search_path`, or migrates them to this release's version. Nodes of an earlier release that are
/// connected continue to work, but cannot connect again. Tables of a newer release are rejected. A
/// migration waits for a lock for up to 2 s at a time and 60 s in all, and blocks changes while it builds
/// indexes of their tables.
///
/// To use a role that may not create tables, run the scripts of this release yourself as their owner.
/// They are in `src/store/sql/schema`. Each one brings the tables from the version before to its own:
///
/// ```sh
/// psql --single-transaction -v ON_ERROR_STOP=1 -f postgres_1.sql -f postgres_2.sql -f postgres_3.sql \
///     -f postgres_4.sql
/// ```
///
/// The role needs these privileges:
///
/// ```sql
/// GRANT SELECT ON service_token_schema TO service;
/// GRANT SELECT, UPDATE ON service_token_store TO service;
/// GRANT SELECT, INSERT, UPDATE, DELETE ON service_tokens TO service;
/// GRANT SELECT, INSERT, DELETE ON service_token_attributes TO service;
/// GRANT SELECT, INSERT ON service_token_events TO service;
/// -- For `with_audit_retention` and `prune_audit_trail`:
/// GRANT UPDATE, DELETE ON service_token_events TO service;
/// ```
pub type PostgresStore = SqlStore<Postgres>;

const DEFAULT_CONNECTIONS: u32 = 10;

/// The size of the pool. The store uses as many of its connections as its limit allows.
const MAX_CONNECTIONS: u32 = 1000;

/// A connection that is older, or was idle for longer, is replaced when it is acquired.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);
const MAX_IDLE: Duration = Duration::from_secs(10 * 60);

impl PostgresStore {
    /// Connects to a server by a URL, with up to [10](Self::with_max_connections) connections and one more
    /// that listens. Opens two more for a moment, to detect a pooler.
    ///
    /// The URL's parameter `target_session_attrs`, or else the environment variable
    /// `PGTARGETSESSIONATTRS`, selects the accepted servers: `any` (the default), `read-write`,
    /// `read-only`, `primary`, `standby` or `prefer-standby`, which is `any` for one server. A URL
    /// names one host. After a failover, the connections follow the name.
    ///
    /// sqlx reads the other variables of libpq, such as `PGUSER` and `PGPASSWORD`, for what the URL does
    /// not have. An empty one counts as a value: unset it.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL is not valid, has no user, or names several hosts, the server is unreachable, not
    /// accepted or a pooler that shares sessions, or the tables are of a newer release.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub async fn connect(url: &str) -> Result<Self, OpenStoreError> {
        let default = std::env::var("PGTARGETSESSIONATTRS").ok();
        let (options, target) = target_session::parse(url, default.as_deref())?;
        let server_health = Arc::new(ServerHealth::new(Self::DEFAULT_DEADLINE));
        let (replacing, preparing) = (Arc::clone(&server_health), Arc::clone(&server_health));
        let pool = PgPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .test_before_acquire(false)
            // Old connections are replaced when they are acquired. sqlx's task for that can loop
            // forever: it counts idle connections, and a race makes that number wrap around.
            .idle_timeout(None)
            .max_lifetime(None)
            .before_acquire(move |_, connection| {
                let is_fresh = connection.age < MAX_AGE
                    && connection.idle_for < MAX_IDLE
                    && !replacing.is_suspect(connection.age);
                Box::pin(ready(Ok(is_fresh)))
            })
            .after_connect(move |connection, _| {
                let server_health = Arc::clone(&preparing);
                Box::pin(async move {
                    target_session::prepare(connection, &server_health, target).await
                })
            })
            .connect_lazy_with(options);
        Self::from_pool(pool, server_health, target, true).await
    }

    /// Uses your own pool, and creates the tables in its database. Opens one more connection with the
    /// pool's options, to listen.
    ///
    /// - Set the pool's `idle_timeout` and `max_lifetime` to `None`: sqlx's task for them has a race
    ///   after which it occupies a processor forever. [`connect`](Self::connect) replaces connections
    ///   that are older than 30 min, or were idle for 10 min, when it acquires them
    ///   (`before_acquire`).
    /// - A change ends by itself on the server a little after the deadline, even if this process is
    ///   gone. For lookups and lists, set `statement_timeout` in `after_connect`, as
    ///   [`connect`](Self::connect) does (deadline plus 500 ms).
    /// - After a connection failed, or turned out to lead to a read-only server while a new one does
    ///   not, the store closes the idle ones. It does not check `target_session_attrs`.
    ///
    /// # Errors
    ///
    /// Returns an error if the server is unreachable or a pooler that shares sessions, or the tables are
    /// of a newer release.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub async fn with_pool(pool: PgPool) -> Result<Self, OpenStoreError> {
        let server_health = Arc::new(ServerHealth::new(Self::DEFAULT_DEADLINE));
        Self::from_pool(pool, server_health, TargetSessionAttrs::Any, false).await
    }

    /// Sets how many connections the store uses at a time, besides the one that listens: from 1 to
    /// 1,000. The default is 10, or the maximum of [your own pool](Self::with_pool), which always
    /// applies too.
    ///
    /// If the server has fewer free slots, operations wait for a connection that is in use. The store
    /// tries to open more after 10 s.
    ///
    /// Applies to all clones of the store.
    pub fn with_max_connections(self, connections: u32) -> Self {
        let connections = connections.min(MAX_CONNECTIONS);
        self.backend.limit.set_max(connections);
        self
    }

    async fn from_pool(
        pool: PgPool,
        server_health: Arc<ServerHealth>,
        target: TargetSessionAttrs,
        replaces_suspects: bool,
    ) -> Result<Self, OpenStoreError> {
        pooler::check_sessions(&pool.connect_options()).await?;
        let limit = if replaces_suspects {
            DEFAULT_CONNECTIONS
        } else {
            pool.options().get_max_connections()
        };
        let limit = Arc::new(ConnectionLimit::new(limit));
        let probe = Arc::new(ConnectProbe::new(pool.clone()));
        let connector = Connector {
            pool: pool.clone(),
            limit: Arc::clone(&limit),
            probe: Arc::clone(&probe),
            server_health: Arc::clone(&server_health),
            target,
        };
        let backend = Postgres {
            pool,
            limit,
            probe,
            server_health,
            connector: Arc::new(connector),
            replaces_suspects,
        };
        Self::with_backend(backend).await
    }
}
