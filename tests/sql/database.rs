//! A database for each test, and the stores in it.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Row};
use test_support::postgres::Postgres;
use tower_service_token::audit::{AuditAction, AuditEvent};
use tower_service_token::digest::TokenDigest;
use tower_service_token::registry::{ListRequest, TokenRegistry, Write};
use tower_service_token::store::sql::{OpenStoreError, PostgresStore, SqliteStore, StoreState};
use tower_service_token::store::{ChangeListener, StoreError, TokenChange, TokenRecord};
use tower_service_token::streams::{TicketLimits, TicketStore};
use tower_service_token::token::{TokenFormat, TokenId};

/// The server that tests share.
#[derive(Clone)]
pub(crate) struct Server(pub(crate) Arc<Postgres>);

impl Server {
    pub(crate) fn find() -> Result<Self, String> {
        Postgres::shared().map(|server| Self(Arc::new(server)))
    }
}

/// An empty database.
#[derive(Clone)]
pub(crate) enum TestDatabase {
    Sqlite(PathBuf),
    Postgres { server: Server, url: String },
}

impl TestDatabase {
    pub(crate) fn sqlite() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("svctok-sqlite-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self::Sqlite(folder)
    }

    pub(crate) fn postgres(server: Server) -> Self {
        let url = String::new();
        Self::Postgres { server, url }
    }

    pub(crate) async fn create(self) -> Self {
        match self {
            Self::Sqlite(_) => self,
            Self::Postgres { server, .. } => {
                let url = server.0.create_database().await;
                Self::Postgres { server, url }
            }
        }
    }

    pub(crate) async fn remove(self) {
        match self {
            Self::Sqlite(folder) => fs::remove_dir_all(folder).unwrap(),
            Self::Postgres { server, url } => server.0.drop_database(&url).await,
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        match self {
            Self::Sqlite(folder) => folder.join("tokens.db"),
            Self::Postgres { .. } => panic!("a PostgreSQL database is not a file"),
        }
    }

    pub(crate) fn url(&self) -> (&Postgres, &str) {
        match self {
            Self::Sqlite(_) => panic!("SQLite has no server"),
            Self::Postgres { server, url } => (&server.0, url),
        }
    }

    pub(crate) async fn open(&self) -> Store {
        self.try_open().await.unwrap()
    }

    pub(crate) async fn registry(&self) -> Arc<dyn TokenRegistry> {
        match self.open().await {
            Store::Sqlite(store) => Arc::new(store),
            Store::Postgres(store) => Arc::new(store),
        }
    }

    /// Opens a store with a deadline that no operation exceeds on a busy machine.
    pub(crate) async fn try_open(&self) -> Result<Store, OpenStoreError> {
        let store = match self {
            Self::Sqlite(_) => SqliteStore::open(self.file()).await.map(Store::Sqlite),
            Self::Postgres { url, .. } => PostgresStore::connect(url).await.map(Store::Postgres),
        };
        store.map(|store| store.with_deadline(Duration::from_secs(60)))
    }

    /// Creates a pool for statements of the test or for a store.
    pub(crate) async fn pool(&self, size: u32) -> TestPool {
        match self {
            Self::Sqlite(_) => {
                let options = SqliteConnectOptions::new()
                    .filename(self.file())
                    .create_if_missing(true);
                let pool = SqlitePoolOptions::new().max_connections(size);
                let pool = pool.idle_timeout(None).max_lifetime(None);
                TestPool::Sqlite(pool.connect_with(options).await.unwrap())
            }
            Self::Postgres { url, .. } => {
                let pool = PgPoolOptions::new().max_connections(size);
                let pool = pool.idle_timeout(None).max_lifetime(None);
                TestPool::Postgres(pool.connect(url).await.unwrap())
            }
        }
    }

    /// Runs SQL statements, without a store.
    pub(crate) async fn run(&self, statements: &str) {
        self.pool(1).await.run(statements).await;
    }
}

pub(crate) enum TestPool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl TestPool {
    pub(crate) async fn run(&self, statements: &str) {
        let statements = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
        match self {
            Self::Sqlite(pool) => drop(statements.execute(pool).await.unwrap()),
            Self::Postgres(pool) => drop(statements.execute(pool).await.unwrap()),
        }
    }

    pub(crate) async fn number(&self, statement: &str) -> i64 {
        let statement = AssertSqlSafe(statement.to_owned());
        match self {
            Self::Sqlite(pool) => {
                let row = sqlx::query(statement).fetch_one(pool).await.unwrap();
                row.get(0)
            }
            Self::Postgres(pool) => {
                let row = sqlx::query(statement).fetch_one(pool).await.unwrap();
                row.get(0)
            }
        }
    }

    pub(crate) async fn text(&self, statement: &str) -> String {
        let statement = AssertSqlSafe(statement.to_owned());
        match self {
            Self::Sqlite(pool) => {
                let row = sqlx::query(statement).fetch_one(pool).await.unwrap();
                row.get(0)
            }
            Self::Postgres(pool) => {
                let row = sqlx::query(statement).fetch_one(pool).await.unwrap();
                row.get(0)
            }
        }
    }

    pub(crate) async fn store(&self) -> Store {
        match self {
            Self::Sqlite(pool) => {
                Store::Sqlite(SqliteStore::with_pool(pool.clone()).await.unwrap())
            }
            Self::Postgres(pool) => {
                Store::Postgres(PostgresStore::with_pool(pool.clone()).await.unwrap())
            }
        }
    }
}

/// A store of either database. `Deref` gives access to `TokenRegistry`.
#[derive(Clone)]
pub(crate) enum Store {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl Deref for Store {
    type Target = dyn TokenRegistry;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Sqlite(store) => store,
            Self::Postgres(store) => store,
        }
    }
}

impl Store {
    pub(crate) fn keep_audit_trail(self) -> Self {
        match self {
            Self::Sqlite(store) => Self::Sqlite(store.keep_audit_trail()),
            Self::Postgres(store) => Self::Postgres(store.keep_audit_trail()),
        }
    }

    pub(crate) fn with_audit_retention(self, retention: Duration) -> Self {
        match self {
            Self::Sqlite(store) => Self::Sqlite(store.with_audit_retention(retention)),
            Self::Postgres(store) => Self::Postgres(store.with_audit_retention(retention)),
        }
    }

    pub(crate) async fn prune_audit_trail(&self, before: SystemTime) -> u64 {
        match self {
            Self::Sqlite(store) => store.prune_audit_trail(before).await.unwrap(),
            Self::Postgres(store) => store.prune_audit_trail(before).await.unwrap(),
        }
    }

    pub(crate) async fn ticket_store(&self) -> Arc<dyn TicketStore> {
        self.ticket_store_with(TicketLimits::default()).await
    }

    pub(crate) async fn ticket_store_with(&self, limits: TicketLimits) -> Arc<dyn TicketStore> {
        match self {
            Self::Sqlite(store) => {
                Arc::new(store.ticket_store().await.unwrap().with_limits(limits))
            }
            Self::Postgres(store) => {
                Arc::new(store.ticket_store().await.unwrap().with_limits(limits))
            }
        }
    }

    pub(crate) async fn state(&self) -> Result<StoreState, StoreError> {
        match self {
            Self::Sqlite(store) => store.state().await,
            Self::Postgres(store) => store.state().await,
        }
        .map(|state| state.expect("the role may read the tables"))
    }

    pub(crate) async fn mark_initialized(&self, at: SystemTime) {
        match self {
            Self::Sqlite(store) => store.mark_initialized(at).await.unwrap(),
            Self::Postgres(store) => store.mark_initialized(at).await.unwrap(),
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await.unwrap(),
            Self::Postgres(store) => store.close().await.unwrap(),
        }
    }

    pub(crate) fn with_deadline(self, deadline: Duration) -> Self {
        match self {
            Self::Sqlite(store) => Self::Sqlite(store.with_deadline(deadline)),
            Self::Postgres(store) => Self::Postgres(store.with_deadline(deadline)),
        }
    }

    /// Sets a short watch interval, to keep the tests fast.
    pub(crate) fn watching(self) -> Self {
        match self {
            Self::Sqlite(store) => {
                Self::Sqlite(store.with_watch_interval(Duration::from_millis(5)))
            }
            Self::Postgres(store) => Self::Postgres(store),
        }
    }

    pub(crate) async fn audit_trail(
        &self,
        id: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<AuditEvent>, StoreError> {
        match self {
            Self::Sqlite(store) => store.audit_trail(id, limit).await,
            Self::Postgres(store) => store.audit_trail(id, limit).await,
        }
    }

    pub(crate) async fn explain(&self, request: Option<&ListRequest>) -> String {
        match self {
            Self::Sqlite(store) => store.explain(request).await.unwrap(),
            Self::Postgres(store) => store.explain(request).await.unwrap(),
        }
    }
}

/// The changes that a listener received.
#[derive(Default)]
pub(crate) struct Changes(Mutex<Vec<TokenChange>>);

impl ChangeListener for Changes {
    fn changed(&self, change: &TokenChange) {
        self.0.lock().unwrap().push(change.clone());
    }
}

impl Changes {
    pub(crate) fn of(store: &Store) -> Arc<Self> {
        let changes = Arc::new(Self::default());
        store.subscribe(&(Arc::clone(&changes) as Arc<dyn ChangeListener>));
        changes
    }

    pub(crate) fn take(&self) -> Vec<TokenChange> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Waits for a change that matches. Returns all changes up to now.
    pub(crate) async fn until(&self, matches: impl Fn(&TokenChange) -> bool) -> Vec<TokenChange> {
        let mut all = Vec::new();
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(60) {
            all.extend(self.take());
            if all.iter().any(&matches) {
                return all;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no matching change in {all:?}");
    }

    /// Waits for the notification that a feed publishes when it starts.
    pub(crate) async fn wait_for_everything(&self) {
        self.until(|change| matches!(change, TokenChange::Everything))
            .await;
    }
}

/// Returns the time this many milliseconds after the Unix epoch.
pub(crate) fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

pub(crate) fn id(number: i64) -> TokenId {
    TokenId::from_i64(number).unwrap()
}

pub(crate) fn digest(text: &str) -> TokenDigest {
    TokenDigest::of(text)
}

/// Returns the record of a new token.
pub(crate) fn minted() -> TokenRecord {
    TokenRecord::from(&TokenFormat::default().mint().unwrap())
}

/// Returns a write of this record with an audit event.
pub(crate) fn write(record: &TokenRecord) -> Write {
    let event = AuditEvent::new(at(1), "a test", AuditAction::Updated, record.id());
    Write::new(record.clone(), event)
}

/// Returns all fields of a record, for comparison.
pub(crate) fn fields(record: &TokenRecord) -> impl PartialEq + std::fmt::Debug + use<> {
    let digests = [Some(record.digest()), record.previous_digest()];
    let names =
        |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect::<Vec<_>>();
    let text = |text: Option<&str>| text.map(str::to_owned);
    (
        (
            record.id(),
            digests.map(|digest| digest.map(ToString::to_string)),
            record.state(),
            record.name().to_owned(),
            record.revision(),
        ),
        [
            text(record.description()),
            text(record.subject()),
            text(record.created_by()),
            text(record.hint()),
        ],
        [
            names(&mut record.roles().iter()),
            names(&mut record.scopes().iter()),
            record
                .labels()
                .flat_map(|(key, value)| [key.to_owned(), value.to_owned()])
                .collect(),
        ],
        [
            record.grace_ends_at(),
            record.created_at(),
            record.updated_at(),
            record.rotated_at(),
            record.last_used_at(),
            record.expires_at(),
            record.not_before(),
        ],
    )
}

impl TestDatabase {
    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }
}

impl TestPool {
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}
