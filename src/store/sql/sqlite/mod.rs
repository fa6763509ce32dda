mod watch;

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::background::Background;
use super::open_error::{OpenStoreError, OpenStoreErrorKind};
use super::pool::Pool;
use super::tables::Tables;
use super::{registry, schema};
use crate::digest::TokenDigest;
use crate::store::{
    AuditEvent, ChangeListener, Credential, FeedState, ListRequest, RegistryError, StoreError,
    TokenFilter, TokenPage, TokenRecord, TokenRegistry, TokenStore, Write,
};
use crate::token::TokenId;

/// Tokens in a SQLite file: a service of one machine needs nothing else.
///
/// 1. What was acknowledged survives a crash of the process and of the machine: write-ahead log,
///    synced on every change. Readers and the writer do not wait for each other.
/// 2. Several processes may use one file. Each learns of the others' changes within the
///    [watch interval](Self::with_watch_interval).
/// 3. The file holds digests and what is known about tokens, never a token. It is created for its
///    owner alone (mode 0600), and so are the files that SQLite puts beside it.
/// 4. Every operation ends by a [deadline](Self::with_deadline); a store that cannot answer is
///    unavailable, never without the token.
/// 5. The tables are named `service_token…` and made when the store is opened. A file whose tables
///    a newer release made is refused.
///
/// ```
/// use tower_service_token::lifecycle::NewToken;
/// use tower_service_token::store::{CachedStore, SqliteStore};
/// use tower_service_token::{ServiceTokenLayer, ServiceTokens};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = std::env::temp_dir().join(format!("sqlite-store-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let store = SqliteStore::open(folder.join("tokens.db")).await?;
///
/// let tokens = ServiceTokens::new(store.clone());
/// let issued = tokens.create(NewToken::new("ci")).await?;
/// println!("shown once: {}", issued.expose_secret());
///
/// let layer = ServiceTokenLayer::new(CachedStore::new(store));
/// # drop((tokens, layer));
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok(())
/// # }
/// ```
///
/// Clones share the connections. A store belongs to the Tokio runtime it was opened in.
#[derive(Clone)]
pub struct SqliteStore {
    tables: Tables,
    watching: Arc<Watching>,
    interval: Duration,
}

struct Watching {
    background: Background,
    /// `None` where nobody else can change anything.
    options: Option<SqliteConnectOptions>,
}

const READERS: u32 = 4;

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

impl SqliteStore {
    /// Opens the file, or creates it in a folder that exists.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or created, is no SQLite file, or a newer release made its
    /// tables.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenStoreError> {
        // A file in any case: to SQLite, `:memory:` and `file:…` are none.
        let path = &Path::new(".").join(path);
        create(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = |size| {
            let pool = SqlitePoolOptions::new().max_connections(size);
            // A file needs no new connections, and sqlx's task for them can spin for ever: it counts
            // idle connections, and a race lets that number wrap around.
            let pool = pool.idle_timeout(None).max_lifetime(None);
            pool.test_before_acquire(false)
        };
        // The writer first: it is the one that turns the log on.
        let writers = pool(1).connect_with(options.clone()).await?;
        let readers = pool(READERS).connect_lazy_with(options.clone());
        Self::over(Pool::Sqlite { readers, writers }, Some(options)).await
    }

    /// A store in memory, for tests: over one connection, and gone with the last clone.
    ///
    /// # Errors
    ///
    /// There is no memory.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn in_memory() -> Result<Self, OpenStoreError> {
        let options = SqliteConnectOptions::new().filename(":memory:");
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await?;
        let (readers, writers) = (pool.clone(), pool);
        let store = Self::over(Pool::Sqlite { readers, writers }, None).await?;
        Ok(store.with_effective_within(Duration::ZERO))
    }

    /// Uses your own pool, and makes the tables in its database.
    ///
    /// What survives a crash, and how long writers wait for each other, is up to the pool's
    /// options; [`open`](Self::open) uses the write-ahead log, `synchronous = FULL` and a busy
    /// timeout of 5 s.
    ///
    /// Set the pool's `idle_timeout` and `max_lifetime` to `None`: a race in sqlx's task for them can
    /// occupy a processor for ever.
    ///
    /// # Errors
    ///
    /// The database cannot be reached, or a newer release made its tables.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn with_pool(pool: SqlitePool) -> Result<Self, OpenStoreError> {
        let options = (*pool.connect_options()).clone();
        let is_own = options.get_filename() == Path::new(":memory:");
        let (readers, writers) = (pool.clone(), pool);
        let pool = Pool::Sqlite { readers, writers };
        Self::over(pool, (!is_own).then_some(options)).await
    }

    async fn over(
        pool: Pool,
        options: Option<SqliteConnectOptions>,
    ) -> Result<Self, OpenStoreError> {
        schema::prepare(&pool).await?;
        let background = Background::new();
        Ok(Self {
            tables: Tables::new(pool),
            watching: Arc::new(Watching {
                background,
                options,
            }),
            interval: Duration::from_millis(250),
        })
    }

    /// How long an operation may take in all, waiting for a connection included. Default: 3 s.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.tables.settings.deadline = deadline;
        self
    }

    /// Keeps what happened to tokens, each event in the transaction of its change. Default: not.
    pub fn with_audit_trail(mut self) -> Self {
        self.tables.settings.keeps_audit_trail = true;
        self
    }

    /// How often this process looks whether another one changed tokens. Default: 250 ms.
    ///
    /// It looks only if somebody [subscribed](TokenStore::subscribe), from the first subscription
    /// on.
    pub fn with_watch_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// What [`effective_within`](TokenRegistry::effective_within) reports: for how long other
    /// processes may go by what they remember. Default: 10 s, the time that caches keep a token
    /// unless told otherwise.
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

    /// How SQLite answers a listing, or, without one, looks a digest up: its query plan, for
    /// whoever wonders which index is used.
    ///
    /// # Errors
    ///
    /// The store could not look.
    pub async fn explain(&self, request: Option<&ListRequest>) -> Result<String, StoreError> {
        self.tables.explain(request, "EXPLAIN QUERY PLAN ", 3).await
    }

    fn listen(&self, listener: &Arc<dyn ChangeListener>) {
        self.tables.feed.subscribe(listener);
        if let Some(options) = &self.watching.options {
            let (feed, interval) = (self.tables.feed.clone(), self.interval);
            let begin = || watch::watch(options.clone(), feed, interval);
            self.watching.background.begin(begin);
        }
    }

    #[expect(clippy::unused_self, reason = "the store over PostgreSQL needs it")]
    fn current_feed_state(&self) -> FeedState {
        FeedState::NotUsed
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.tables.check_writable().await
    }
}

registry::over_tables!(SqliteStore);

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

/// Creates the file for its owner alone, if it is not there. SQLite gives the files beside it the
/// same mode.
fn create(path: &Path) -> Result<(), OpenStoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(OpenStoreError::new(
            OpenStoreErrorKind::Configuration,
            error.to_string(),
        )),
        _ => Ok(()),
    }
}
