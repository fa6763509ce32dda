mod backend;
mod change_watcher;
mod dialect;
mod file;

use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use tokio::time::{Instant, sleep};

use self::backend::Sqlite;
use self::file::DatabaseFile;
use super::open_error::{OpenStoreError, OpenStoreErrorKind};
use super::session::{Driver, NamedColumns};
use super::store::SqlStore;

/// Stores tokens in a SQLite file, for a service on one machine.
///
/// - **Durable.** An acknowledged change survives a crash of the process and of the machine: the
///   store uses the write-ahead log and syncs it on every change. Readers and the writer do not block
///   each other.
/// - **Several processes** can use one file. Each learns of the others' changes within the
///   [watch interval](SqliteStore::with_watch_interval).
/// - **No secrets.** The file contains digests and records, never a token. It is created with mode
///   0600, as are the files that SQLite puts beside it.
/// - **Deadlines.** Every operation ends by a [deadline](SqlStore::with_deadline). If the database does
///   not answer, the store is unavailable.
/// - **Lost files.** If the file, or the write-ahead log beside it, is removed or replaced while it is
///   open, changes fail at once and lookups fail within 250 ms, until the same file is back or the
///   store is opened again. Restore a backup only while no process has the file open: the store does
///   not notice contents that are written over the same file.
/// - **Backups.** [`close`](SqlStore::close) leaves one complete file if no other process has it open.
/// - **Schema.** The tables are named `service_token…`. Opening a store creates them or migrates them
///   to this release's version. Processes of an earlier release that have the file open continue to
///   work, but cannot open it again. Tables of a newer release are rejected.
///
/// Clones share the connections. A store belongs to the Tokio runtime that it was opened in.
///
/// # Examples
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
pub type SqliteStore = SqlStore<Sqlite>;

const MAX_READERS: u32 = 4;

const DATABASE_PATH: &str = "SELECT file FROM pragma_database_list WHERE name = 'main'";

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const LOCK_RETRY_DELAY: Duration = Duration::from_millis(10);

impl SqliteStore {
    /// Opens the file, or creates it in an existing directory.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be opened or created, is not a SQLite database, or has
    /// tables of a newer release.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenStoreError> {
        // An absolute path names a file. `:memory:` and `file:…` do not.
        let path = std::path::absolute(Path::new(".").join(path)).map_err(invalid_path)?;
        file::create(&path).map_err(invalid_path)?;
        let file = Arc::new(DatabaseFile::new(path.clone()));
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        // The writer comes first, because it turns the log on.
        let writers = connect_writer(&file, &options).await?;
        let backend = Sqlite {
            writers,
            readers: pool_options(MAX_READERS, Some(&file)).connect_lazy_with(options.clone()),
            watcher: Some(pool_options(1, Some(&file)).connect_lazy_with(options)),
            file: Some(Arc::clone(&file)),
            watch_interval: Sqlite::DEFAULT_WATCH_INTERVAL,
        };
        let store = Self::with_backend(backend).await?;
        // A reader that stays open keeps a closing writer from removing the log.
        path_of(&store.backend.readers).await?;
        file.track_wal();
        Ok(store)
    }

    /// Creates a store in memory, for tests. It has one connection and ends with its last clone.
    ///
    /// # Errors
    ///
    /// Returns an error if SQLite cannot allocate the database.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub async fn in_memory() -> Result<Self, OpenStoreError> {
        let options = SqliteConnectOptions::new().filename(":memory:");
        let pool = pool_options(1, None).connect_with(options).await?;
        let store = Self::with_backend(Sqlite::over(pool, None, None)).await?;
        Ok(store.with_effective_within(Duration::ZERO))
    }

    /// Uses your own pool, and creates the tables in its database.
    ///
    /// Durability and lock timeouts depend on the options of the pool. [`open`](Self::open) uses the
    /// write-ahead log, `synchronous = FULL` and a busy timeout of 5 s.
    ///
    /// Set the pool's `idle_timeout` and `max_lifetime` to `None`: sqlx's task for them has a race
    /// after which it occupies a processor forever.
    ///
    /// # Errors
    ///
    /// Returns an error if the database is unreachable or has tables of a newer release.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub async fn with_pool(pool: SqlitePool) -> Result<Self, OpenStoreError> {
        let options = (*pool.connect_options()).clone();
        let is_in_memory = options.get_filename() == Path::new(":memory:");
        let file = path_of(&pool).await?.map(DatabaseFile::new).map(Arc::new);
        // Takes the identity of the file. If it is missing already, every change fails.
        let _ = file.as_ref().map(|file| file.check());
        let watcher =
            (!is_in_memory).then(|| pool_options(1, file.as_ref()).connect_lazy_with(options));
        let store = Self::with_backend(Sqlite::over(pool, file, watcher)).await?;
        Ok(store)
    }

    /// Sets how often this process checks whether another one changed tokens. The default is 250 ms.
    ///
    /// The checks start with the first [subscriber](crate::TokenStore::subscribe).
    pub fn with_watch_interval(mut self, interval: Duration) -> Self {
        self.backend.watch_interval = interval;
        self
    }
}

/// Returns options for a pool that keeps its connections open. It opens none if the path no longer
/// leads to the opened file.
fn pool_options(size: u32, file: Option<&Arc<DatabaseFile>>) -> SqlitePoolOptions {
    let pool = SqlitePoolOptions::new()
        .max_connections(size)
        .test_before_acquire(false)
        // A file needs no new connections, and sqlx's task that replaces them can loop forever: it
        // counts idle connections, and a race makes that number wrap around.
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

/// Connects the writer. Tries again while the file is locked: SQLite does not wait for the lock that
/// turning the log on takes, so processes that open a new file at once would fail.
async fn connect_writer(
    file: &Arc<DatabaseFile>,
    options: &SqliteConnectOptions,
) -> Result<SqlitePool, OpenStoreError> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
    loop {
        let connected = pool_options(1, Some(file)).connect_with(options.clone());
        match connected.await.map_err(OpenStoreError::from) {
            Err(error) if error.is_lock_timeout() && Instant::now() < deadline => {
                sleep(LOCK_RETRY_DELAY).await;
            }
            result => return result,
        }
    }
}

/// Returns the file of a database, or `None` for a temporary one or one in memory.
async fn path_of(pool: &SqlitePool) -> Result<Option<PathBuf>, OpenStoreError> {
    let row = pool.acquire().await?.row(DATABASE_PATH.into(), &[]).await?;
    let path = row.as_ref().map_or(Ok(None), |row| row.text("file"))?;
    Ok(path.filter(|path| !path.is_empty()).map(PathBuf::from))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "`map_err` passes the error by value"
)]
fn invalid_path(error: io::Error) -> OpenStoreError {
    OpenStoreError::new(OpenStoreErrorKind::Configuration, error.to_string())
}
