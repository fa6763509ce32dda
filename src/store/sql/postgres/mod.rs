mod listen;
mod target;

use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sqlx::postgres::{PgPool, PgPoolOptions};

use self::listen::Connector;
use self::target::TargetSessionAttrs;
use super::background_task::BackgroundTask;
use super::feed_tracker::FeedTracker;
use super::open_error::OpenStoreError;
use super::pool::Pool;
use super::server_health::ServerHealth;
use super::tables::{Settings, Tables};
use super::{StoreState, registry, retention, schema};
use crate::audit::AuditEvent;
use crate::digest::TokenDigest;
use crate::registry::{ListRequest, RegistryError, TokenFilter, TokenPage, TokenRegistry, Write};
use crate::store::{ChangeListener, Credential, FeedStatus, StoreError, TokenRecord, TokenStore};
use crate::token::TokenId;

/// Tokens in PostgreSQL (12 or newer): for services of several nodes.
///
/// 1. What was acknowledged is as durable as the server makes commits.
/// 2. Each node learns of the others' changes at once, by `LISTEN`. While that connection is down
///    it cannot, and caches go by what they remember for as long as they may;
///    [subscribers](TokenStore::subscribe) are told that anything may have changed when it is back.
/// 3. The tables hold digests and what is known about tokens, never a token.
/// 4. Every operation ends by a [deadline](Self::with_deadline); a store that cannot answer is
///    unavailable, never without the token. When the server is back, so is the store.
/// 5. After a failover the connections follow the host name of the server. Those opened before are
///    closed when they are next acquired, once one of them fails, is silent for 500 ms after another
///    missed its deadline, or leads to a read-only server while a new one does not. An operation whose connection failed before its commit was sent is repeated once;
///    a change whose commit was not answered is not, and its error says so.
/// 6. The server ends an operation by itself if this process is gone: one that waits for a lock
///    after 0.9 times the deadline, any other statement 500 ms after it.
/// 7. The tables are named `service_token…`, are made when the store is opened, in the first
///    schema of the `search_path`, or brought to this release's version: nodes of an earlier release
///    that are connected go on, and cannot connect again. Tables that a newer release made are
///    refused. Bringing them to a new version waits for a lock at most 2 s at a time, for 60 s in all,
///    and blocks the changes that append to the audit trail while an index of it is built.
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
/// Clones share the connections. A store belongs to the Tokio runtime it was opened in.
///
/// - Notifications carry digests, and whoever may connect to the database may listen to them.
///   A digest of a token of this crate's [format](crate::token::TokenFormat) tells nothing; that
///   of an imported token is as good as its randomness.
/// - An index entry has an end: names, subjects, roles, scopes and labels of more than about
///   2,000 bytes are refused.
/// - Connections are encrypted with the feature `rustls`, and as the URL's `sslmode` says.
#[derive(Clone)]
pub struct PostgresStore {
    tables: Tables,
    server_health: Arc<ServerHealth>,
    listening: Arc<Listening>,
}

struct Listening {
    background: BackgroundTask,
    connector: Connector,
    status: Arc<FeedTracker>,
}

const MAX_CONNECTIONS: u32 = 10;

/// A connection that is older, or was idle for longer, is replaced when it is acquired.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);
const MAX_IDLE: Duration = Duration::from_secs(10 * 60);

impl PostgresStore {
    /// Connects to a server by a URL, with up to 10 connections and one more to listen.
    ///
    /// The URL's parameter `target_session_attrs`, or else the environment variable
    /// `PGTARGETSESSIONATTRS`, says which servers are accepted: `any` (the default), `read-write`,
    /// `read-only`, `primary`, `standby` or `prefer-standby`, which is `any` for one server. A URL
    /// names one host; after a failover, the connections follow the name.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL is not valid or names several hosts, the server cannot be
    /// reached or is not accepted, or a newer release made its tables.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub async fn connect(url: &str) -> Result<Self, OpenStoreError> {
        let default = std::env::var("PGTARGETSESSIONATTRS").ok();
        let (options, target) = target::parse(url, default.as_deref())?;
        let server_health = Arc::new(ServerHealth::new(Settings::default().deadline));
        let (replacing, preparing) = (Arc::clone(&server_health), Arc::clone(&server_health));
        let pool = PgPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .test_before_acquire(false)
            // Old connections are replaced as they are acquired. sqlx's task for that can spin for
            // ever: it counts idle connections, and a race lets that number wrap around.
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
                Box::pin(async move { target::prepare(connection, &server_health, target).await })
            })
            .connect_lazy_with(options);
        Self::from_pool(pool, server_health, target, true).await
    }

    /// Uses your own pool, and makes the tables in its database. To listen, one more connection is
    /// made with the pool's options.
    ///
    /// - Set the pool's `idle_timeout` and `max_lifetime` to `None`: a race in sqlx's task for them
    ///   can occupy a processor for ever. [`connect`](Self::connect) replaces connections that are
    ///   older than 30 min, or were idle for 10 min, when it acquires them (`before_acquire`).
    /// - A change ends by itself on the server a little after the deadline, even if this process
    ///   is gone. For lookups and lists, set `statement_timeout` in `after_connect`, as
    ///   [`connect`](Self::connect) does (deadline plus 500 ms).
    /// - After a connection failed, or turned out to lead to a read-only server while a new one does
    ///   not, the idle ones are closed. `target_session_attrs` is not checked.
    ///
    /// # Errors
    ///
    /// Returns an error if the server cannot be reached, or a newer release made the tables.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub async fn with_pool(pool: PgPool) -> Result<Self, OpenStoreError> {
        let server_health = Arc::new(ServerHealth::new(Settings::default().deadline));
        Self::from_pool(pool, server_health, TargetSessionAttrs::Any, false).await
    }

    async fn from_pool(
        pool: PgPool,
        server_health: Arc<ServerHealth>,
        target: TargetSessionAttrs,
        is_own: bool,
    ) -> Result<Self, OpenStoreError> {
        let options = (*pool.connect_options()).clone();
        let connector = Connector::new(options, Arc::clone(&server_health), target);
        let pool = Pool::Postgres {
            pool,
            server_health: Arc::clone(&server_health),
            is_own,
        };
        schema::prepare(&pool).await?;
        Ok(Self {
            tables: Tables::new(pool),
            server_health,
            listening: Arc::new(Listening {
                background: BackgroundTask::new(),
                connector,
                status: Arc::new(FeedTracker::new()),
            }),
        })
    }

    /// How long an operation may take in all, waiting for a connection included. Default: 3 s.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.tables.settings.deadline = deadline;
        self.server_health.extend_deadline(deadline);
        self
    }

    /// Keeps what happened to tokens, each event in the transaction of its change. Default: not.
    pub fn with_audit_trail(mut self) -> Self {
        self.tables.settings.keeps_audit_trail = true;
        self
    }

    /// What [`effective_within`](TokenRegistry::effective_within) reports: for how long other
    /// processes may go by what they remember while they cannot listen. Default: 10 s, the time
    /// that caches keep a token unless told otherwise.
    pub fn with_effective_within(mut self, bound: Duration) -> Self {
        self.tables.settings.effective_within = bound;
        self
    }

    /// The last events of the audit trail, or those of one token, the newest first; 1,000 at
    /// most.
    ///
    /// # Errors
    ///
    /// The store could not look.
    pub async fn audit_trail(
        &self,
        id: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<AuditEvent>, StoreError> {
        self.tables.audit_trail(id, limit).await
    }

    /// How PostgreSQL answers a listing, or, without one, looks a digest up: its query plan, for
    /// whoever wonders which index is used.
    ///
    /// # Errors
    ///
    /// The store could not look.
    pub async fn explain(&self, request: Option<&ListRequest>) -> Result<String, StoreError> {
        self.tables.explain(request, "EXPLAIN ", 0).await
    }

    fn listen(&self, listener: &Arc<dyn ChangeListener>) {
        self.tables.feed.subscribe(listener);
        let start = || {
            let Listening {
                connector, status, ..
            } = &*self.listening;
            status.set_connecting();
            let (connector, status) = (connector.clone(), Arc::clone(status));
            listen::listen(connector, self.tables.feed.clone(), status)
        };
        self.listening.background.start(start);
    }

    fn current_feed_status(&self) -> FeedStatus {
        self.listening.status.state()
    }

    async fn stop_listening(&self) {
        self.listening.background.stop().await;
        self.listening.status.set_not_used();
    }
}

registry::impl_store!(PostgresStore);

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}
