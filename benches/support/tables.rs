//! A database with a hundred known tokens, which the store inserts, and any number of other tokens, which
//! one statement inserts.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, ColumnIndex, Decode, PgPool, Row, SqlitePool, Type};
use tower_service_token::audit::{AuditAction, AuditEvent};
use tower_service_token::registry::{ListRequest, TokenRegistry, Write};
use tower_service_token::store::TokenRecord;
use tower_service_token::store::sql::{PostgresStore, SqliteStore};
use tower_service_token::token::{MintedToken, TokenFormat};

/// A day in milliseconds.
const DAY: i64 = 86_400_000;

pub(crate) struct Tables {
    pub(crate) store: Arc<dyn TokenRegistry>,
    pub(crate) known: Vec<MintedToken>,
    pub(crate) size: i64,
    pool: Pool,
}

enum Pool {
    Sqlite(SqlitePool, SqliteStore),
    Postgres(PgPool, PostgresStore),
}

/// The columns of a record, in the order of the store's own statement.
const BARE: &str = "SELECT id, digest, previous_digest, grace_ends_at, state, name, description, \
    subject, roles, scopes, labels, created_at, created_by, updated_at, rotated_at, expires_at, \
    not_before, revision, hint, rotation_key, owner, last_used_at FROM service_tokens \
    WHERE digest = $1";

impl Tables {
    pub(crate) async fn sqlite(path: &Path, size: i64) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let pool = SqlitePoolOptions::new().test_before_acquire(false);
        let pool = pool.connect_with(options).await.expect("the file opens");
        let store = SqliteStore::with_pool(pool.clone())
            .await
            .expect("the tables are created");
        let numbers = "WITH RECURSIVE numbers(n) AS \
            (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < $1)";
        let script = [
            format!("{numbers} {}", tokens("randomblob(32)", "numbers")),
            attributes(),
            "ANALYZE".to_owned(),
        ];
        for sql in script {
            let query = sqlx::query(AssertSqlSafe(sql.clone()));
            let query = if sql.contains("$1") {
                query.bind(size)
            } else {
                query
            };
            query.execute(&pool).await.expect("the statement is valid");
        }
        let known = known(&store).await;
        Self {
            store: Arc::new(store.clone()),
            known,
            size,
            pool: Pool::Sqlite(pool, store),
        }
    }

    pub(crate) async fn postgres(url: &str, size: i64) -> Self {
        let pool = PgPoolOptions::new().test_before_acquire(false);
        let pool = pool.connect(url).await.expect("the server is reachable");
        let store = PostgresStore::with_pool(pool.clone())
            .await
            .expect("the tables are created");
        let numbers = "generate_series(1::BIGINT, $1) AS numbers(n)";
        let digest = "sha256(convert_to(n::TEXT, 'UTF8'))";
        for sql in [
            tokens(digest, numbers),
            attributes(),
            "VACUUM ANALYZE".to_owned(),
        ] {
            let query = sqlx::query(AssertSqlSafe(sql.clone()));
            let query = if sql.contains("$1") {
                query.bind(size)
            } else {
                query
            };
            query.execute(&pool).await.expect("the statement is valid");
        }
        let known = known(&store).await;
        Self {
            store: Arc::new(store.clone()),
            known,
            size,
            pool: Pool::Postgres(pool, store),
        }
    }

    /// Fetches a row with the driver alone. Reads its columns if `reads` is set.
    pub(crate) async fn bare(&self, digest: &[u8], reads: bool) {
        match &self.pool {
            Pool::Sqlite(pool, _) => {
                let query = sqlx::query(BARE).bind(digest);
                let row = query
                    .fetch_optional(pool)
                    .await
                    .expect("the query succeeds");
                let row = row.expect("the token exists");
                if reads {
                    read(&row);
                }
            }
            Pool::Postgres(pool, _) => {
                let query = sqlx::query(BARE).bind(digest);
                let row = query
                    .fetch_optional(pool)
                    .await
                    .expect("the query succeeds");
                let row = row.expect("the token exists");
                if reads {
                    read(&row);
                }
            }
        }
    }

    pub(crate) async fn plan(&self, request: Option<&ListRequest>) -> String {
        let plan = match &self.pool {
            Pool::Sqlite(_, store) => store.explain(request).await,
            Pool::Postgres(_, store) => store.explain(request).await,
        };
        plan.expect("the query has a plan")
    }
}

/// Reads the columns into owned strings and bytes, as a program does.
fn read<R: Row>(row: &R)
where
    usize: ColumnIndex<R>,
    for<'r> Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Option<String>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Option<Vec<u8>>: Decode<'r, R::Database> + Type<R::Database>,
{
    for column in [0, 3, 4, 11, 13, 14, 15, 16, 17, 21] {
        black_box(row.get::<Option<i64>, _>(column));
    }
    for column in [5, 6, 7, 8, 9, 10, 12, 18, 20] {
        black_box(row.get::<Option<String>, _>(column));
    }
    for column in [1, 2, 19] {
        black_box(row.get::<Option<Vec<u8>>, _>(column));
    }
}

/// Returns a statement that inserts tokens. Each filter matches some: few share a name, half share a role.
fn tokens(digest: &str, numbers: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(0));
    let start = now - 400 * DAY;
    format!(
        "INSERT INTO service_tokens (id, digest, state, name, subject, roles, scopes, labels, \
         created_at, updated_at, expires_at, last_used_at, revision) \
         SELECT n * 839299365868 % 839299365868340223, {digest}, \
         CASE WHEN n % 100 = 0 THEN 1 WHEN n % 20 = 0 THEN 2 ELSE 0 END, \
         'token ' || (n % 1000), 'team ' || (n % 1000), \
         CASE WHEN n % 2 = 0 THEN '[\"deployer\"]' ELSE '[]' END, \
         '[\"projects:' || (n % 100) || '\"]', '{{\"shard\":\"' || (n % 100) || '\"}}', \
         {start} + n, {start} + n, \
         CASE WHEN n % 3 = 0 THEN {now} + (n % 1000 - 100) * {DAY} END, \
         CASE WHEN n % 5 <> 0 THEN {now} - (n % 30) * {DAY} END, 1 FROM {numbers}"
    )
}

fn attributes() -> String {
    "INSERT INTO service_token_attributes (kind, value, listed_at, token_id) \
     SELECT 1, 'deployer', created_at, id FROM service_tokens WHERE roles <> '[]' UNION ALL \
     SELECT 2, replace(replace(scopes, '[\"', ''), '\"]', ''), created_at, id \
     FROM service_tokens UNION ALL \
     SELECT 3, replace(replace(replace(labels, '{', '['), '}', ']'), ':', ','), created_at, id \
     FROM service_tokens"
        .to_owned()
}

async fn known(store: &impl TokenRegistry) -> Vec<MintedToken> {
    let mut known = Vec::new();
    for number in 0..100 {
        let token = TokenFormat::default().mint().expect("random bytes");
        let record = TokenRecord::from(&token)
            .with_name(format!("known {number}"))
            .with_roles(["deployer", "auditor"])
            .with_created_at(SystemTime::now())
            .with_revision(1);
        let event = AuditEvent::new(SystemTime::now(), "bench", AuditAction::Created, token.id());
        let inserted = store.insert(&Write::new(record, event)).await;
        inserted.expect("a new token");
        known.push(token);
    }
    known
}
