mod change_watcher;

use std::fmt;
use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use self::change_watcher::ChangeWatcher;
use super::background_task::BackgroundTask;
use super::database_file::{DatabaseFile, create};
use super::feed_tracker::FeedTracker;
use super::open_error::{OpenStoreError, OpenStoreErrorKind};
use super::pool::Pool;
use super::tables::Tables;
use super::{StoreState, registry, retention, schema};
use crate::audit::AuditEvent;
use crate::digest::TokenDigest;
use crate::registry::{ListRequest, RegistryError, TokenFilter, TokenPage, TokenRegistry, Write};
use crate::store::{ChangeListener, Credential, FeedStatus, StoreError, TokenRecord, TokenStore};
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
/// 5. If the file, or the write-ahead log beside it, is removed or replaced while it is open, changes
///    fail, and lookups fail within 250 ms, until the same file is back or the store is opened again.
///    A backup is restored while no process has the file open: contents that are written over the
///    same file go unnoticed.
/// 6. [`close`](Self::close) leaves one complete file, if no other process has it open.
/// 7. The tables are named `service_token…` and made when the store is opened, or brought to this
///    release's version: processes of an earlier release that have the file open go on, and cannot
///    open it again. A file whose tables a newer release made is refused.
///
/// ```
/// use tower_service_token::lifecycle::NewToken;
/// use tower_service_token::store::CachedStore;
/// use tower_service_token::store::sql::SqliteStore;
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
    background: BackgroundTask,
    /// For the one connection that watches. `None` where nobody else can change anything.
    pool: Option<SqlitePool>,
    status: Arc<FeedTracker>,
}

const MAX_READERS: u32 = 4;

const DATABASE_PATH: &str = "SELECT file FROM pragma_database_list WHERE name = 'main'";

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
        let path = std::path::absolute(Path::new(".").join(path)).map_err(invalid_path)?;
        create(&path).map_err(invalid_path)?;
        let file = Arc::new(DatabaseFile::of(path.clone()));
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        // The writer first: it is the one that turns the log on.
        let writers = pool_options(1, Some(&file)).connect_with(options.clone());
        let writers = writers.await?;
        let readers = pool_options(MAX_READERS, Some(&file)).connect_lazy_with(options.clone());
        let pool = Pool::Sqlite { readers, writers };
        let store = Self::from_pool(pool, Some(options), Some(Arc::clone(&file))).await?;
        // A reader that stays open keeps a writer that is closed from removing the log.
        path_of(&store.tables.pool).await?;
        file.track_wal();
        Ok(store)
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
        let pool = pool_options(1, None).connect_with(options).await?;
        let (readers, writers) = (pool.clone(), pool);
        let store = Self::from_pool(Pool::Sqlite { readers, writers }, None, None).await?;
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
        let file = path_of(&pool).await?.map(DatabaseFile::of);
        // From now on; a file that is missing already fails every change.
        let _ = file.as_ref().map(DatabaseFile::check);
        Self::from_pool(pool, (!is_own).then_some(options), file.map(Arc::new)).await
    }

    async fn from_pool(
        pool: Pool,
        options: Option<SqliteConnectOptions>,
        file: Option<Arc<DatabaseFile>>,
    ) -> Result<Self, OpenStoreError> {
        schema::prepare(&pool).await?;
        let watching = Watching {
            background: BackgroundTask::new(),
            pool: options.map(|options| {
                let pool = pool_options(1, file.as_ref());
                pool.connect_lazy_with(options)
            }),
            status: Arc::new(FeedTracker::new()),
        };
        let mut tables = Tables::new(pool);
        tables.file = file;
        Ok(Self {
            tables,
            watching: Arc::new(watching),
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
        if let Some(pool) = &self.watching.pool {
            let watcher = ChangeWatcher {
                pool: pool.clone(),
                file: self.tables.file.clone(),
                feed: self.tables.feed.clone(),
                status: Arc::clone(&self.watching.status),
                interval: self.interval,
            };
            self.watching.background.start(|| {
                watcher.status.set_connecting();
                watcher.run()
            });
        }
    }

    async fn stop_listening(&self) {
        self.watching.background.stop().await;
        self.watching.status.set_not_used();
        if let Some(pool) = &self.watching.pool {
            pool.close().await;
        }
    }

    fn current_feed_status(&self) -> FeedStatus {
        self.watching.status.state()
    }
}

registry::impl_store!(SqliteStore);

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

/// A pool whose connections stay open, and are refused to a file that is not the opened one.
fn pool_options(size: u32, file: Option<&Arc<DatabaseFile>>) -> SqlitePoolOptions {
    let pool = SqlitePoolOptions::new()
        .max_connections(size)
        .test_before_acquire(false)
        // A file needs no new connections, and sqlx's task for them can spin for ever: it counts idle
        // connections, and a race lets that number wrap around.
        .idle_timeout(None)
        .max_lifetime(None);
    let Some(file) = file.cloned() else {
        return pool;
    };
    pool.after_connect(move |_, _| {
        let checked = file.check();
        Box::pin(ready(
            checked.map_err(|error| sqlx::Error::Configuration(error.into())),
        ))
    })
}

/// The file of a pool's database. `None` for a database in memory or a temporary one.
async fn path_of(pool: &Pool) -> Result<Option<PathBuf>, OpenStoreError> {
    let rows = pool
        .reader()
        .await?
        .session()
        .rows(DATABASE_PATH, &[])
        .await?;
    let path = rows.first().map_or(Ok(None), |row| row.text(0))?;
    Ok(path.filter(|path| !path.is_empty()).map(PathBuf::from))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it stands where a function of the error is wanted"
)]
fn invalid_path(error: io::Error) -> OpenStoreError {
    OpenStoreError::new(OpenStoreErrorKind::Configuration, error.to_string())
}
