#[cfg(feature = "postgres")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "postgres")]
use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::pool::PoolConnection;
#[cfg(feature = "postgres")]
use sqlx::postgres::{PgPool, Postgres};
#[cfg(feature = "sqlite")]
use sqlx::sqlite::{Sqlite, SqlitePool};
use tokio::time::Instant;

use super::failure::{Failure, Fault, before_deadline};
#[cfg(feature = "postgres")]
use super::probe;
#[cfg(feature = "postgres")]
use super::release_guard::ReleaseGuard;
#[cfg(feature = "postgres")]
use super::server_health::{self, ServerHealth};
use super::session::{Session, Value};

/// How much longer the server may work on a statement than this process waits for it.
#[cfg(feature = "postgres")]
pub(super) const SERVER_TIMEOUT_MARGIN: Duration = Duration::from_millis(500);

/// Where connections come from.
#[derive(Clone)]
pub(super) enum Pool {
    /// SQLite has one writer at a time: whoever waits for it in line rather than by asking again
    /// and again gets it sooner.
    #[cfg(feature = "sqlite")]
    Sqlite {
        readers: SqlitePool,
        writers: SqlitePool,
    },
    #[cfg(feature = "postgres")]
    Postgres {
        pool: PgPool,
        server_health: Arc<ServerHealth>,
        /// Whether the pool replaces suspect connections when it acquires them.
        is_own: bool,
    },
}

/// What a connection is acquired for.
#[derive(Clone, Copy)]
pub(super) enum Access {
    Read,
    Write,
}

/// A connection that goes back to its pool.
pub(super) enum Lease {
    #[cfg(feature = "sqlite")]
    Sqlite(PoolConnection<Sqlite>),
    #[cfg(feature = "postgres")]
    Postgres(ReleaseGuard),
}

/// Undone when dropped.
pub(super) enum Transaction<'c> {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::Transaction<'c, Sqlite>),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::Transaction<'c, Postgres>),
}

impl Pool {
    pub(super) async fn reader(&self) -> Result<Lease, sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { readers, .. } => Box::pin(readers.acquire()).await.map(Lease::Sqlite),
            #[cfg(feature = "postgres")]
            Self::Postgres { .. } => self.writer().await,
        }
    }

    pub(super) async fn writer(&self) -> Result<Lease, sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { writers, .. } => Box::pin(writers.acquire()).await.map(Lease::Sqlite),
            #[cfg(feature = "postgres")]
            Self::Postgres {
                pool,
                server_health,
                ..
            } => {
                let close = |mut connection: PoolConnection<Postgres>| connection.close_on_drop();
                let connection = server_health::acquire(Box::pin(pool.acquire()), close).await?;
                let guard = ReleaseGuard::new(connection, pool.clone(), Arc::clone(server_health));
                Ok(Lease::Postgres(guard))
            }
        }
    }

    /// Acquires a connection until the deadline.
    pub(super) async fn lease(&self, access: Access, deadline: Instant) -> Result<Lease, Failure> {
        let lease = async {
            match access {
                Access::Read => self.reader().await,
                Access::Write => self.writer().await,
            }
        };
        match before_deadline(deadline, lease).await {
            Ok(lease) => Ok(lease?),
            // No connection is to blame that another operation may still use.
            Err(_) => Err(Failure::AcquireTimedOut),
        }
    }

    /// Closes a connection that is of no more use, and those that may be of none for the same reason
    /// before they are used again. SQLite has no server, and the connection of a database in memory
    /// is the database. Returns whether another connection may do better.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(clippy::unused_async, reason = "SQLite has no server to ask")
    )]
    pub(super) async fn handle_fault(
        &self,
        lease: &mut Lease,
        fault: Fault,
        deadline: Instant,
    ) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { .. } => {
                let _ = (lease, fault, deadline);
            }
            #[cfg(feature = "postgres")]
            Self::Postgres {
                pool,
                server_health,
                is_own,
            } => {
                let is_server_gone = match fault {
                    Fault::None => return true,
                    // The connection still serves lookups.
                    Fault::ReadOnly
                        if !new_connections_are_writable(pool, server_health, deadline).await =>
                    {
                        return false;
                    }
                    Fault::ReadOnly | Fault::Server => true,
                    Fault::Connection => false,
                    Fault::TimedOut => {
                        probe::ping_idle(pool, server_health);
                        false
                    }
                };
                lease.discard();
                if is_server_gone {
                    server_health.mark_suspect();
                    if !is_own {
                        probe::close_idle(pool);
                    }
                }
            }
        }
        true
    }

    /// How often an operation is repeated on another connection. Behind a failure, our own pools
    /// open a new one; others may still have connections that failed unnoticed.
    pub(super) fn retries(&self) -> u32 {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { readers, .. } => readers.size() + 1,
            #[cfg(feature = "postgres")]
            Self::Postgres { is_own: true, .. } => 1,
            #[cfg(feature = "postgres")]
            Self::Postgres { pool, .. } => pool.size() + 1,
        }
    }

    /// Whether any row can have these values: no text in PostgreSQL has a zero byte, and asking for
    /// one is an error.
    pub(super) fn can_match(&self, values: &[Value<'_>]) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { .. } => {
                let _ = values;
                true
            }
            #[cfg(feature = "postgres")]
            Self::Postgres { .. } => !values
                .iter()
                .any(|value| matches!(value, Value::Text(Some(text)) if text.contains('\0'))),
        }
    }

    /// Whether the database counts its rows by itself, to know the better plan.
    pub(super) fn has_row_statistics(&self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { .. } => false,
            #[cfg(feature = "postgres")]
            Self::Postgres { .. } => true,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { writers, .. } => writers.is_closed(),
            #[cfg(feature = "postgres")]
            Self::Postgres { pool, .. } => pool.is_closed(),
        }
    }

    /// Waits for the connections in use, and closes all.
    pub(super) async fn close(&self) {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { readers, writers } => {
                // Both refuse connections from now on.
                let (readers, writers) = (readers.close(), writers.close());
                readers.await;
                writers.await;
            }
            #[cfg(feature = "postgres")]
            Self::Postgres { pool, .. } => pool.close().await,
        }
    }
}

/// Returns whether new connections lead to a server that accepts changes.
#[cfg(feature = "postgres")]
async fn new_connections_are_writable(
    pool: &PgPool,
    server_health: &ServerHealth,
    deadline: Instant,
) -> bool {
    if let Some(accepts) = server_health.recent_write_probe() {
        return accepts;
    }
    let accepts = probe::accepts_writes(&pool.connect_options(), deadline).await;
    server_health.set_write_probe(accepts);
    accepts
}

impl Lease {
    pub(super) fn session(&mut self) -> Session<'_> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => Session::Sqlite(connection),
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => Session::Postgres(connection.get_mut()),
        }
    }

    /// Begins to write. In PostgreSQL, a statement of the transaction ends by itself a little after
    /// `bound`, and the transaction too if no statement follows, whether or not this process is still
    /// there; a statement that waits for a lock ends a little before.
    pub(super) async fn begin(&mut self, bound: Duration) -> Result<Transaction<'_>, sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => {
                let _ = bound;
                let transaction = connection.begin_with("BEGIN IMMEDIATE").await;
                transaction.map(Transaction::Sqlite)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => {
                let begin = AssertSqlSafe(begin_statement(bound));
                let transaction = connection.get_mut().begin_with(begin).await;
                transaction.map(Transaction::Postgres)
            }
        }
    }

    /// Closes the connection, which cannot be used any more.
    #[cfg(feature = "sqlite")]
    pub(super) fn close(&mut self) {
        match self {
            Self::Sqlite(connection) => connection.close_on_drop(),
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => connection.discard(),
        }
    }

    #[cfg(feature = "postgres")]
    fn discard(&mut self) {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => {}
            Self::Postgres(connection) => connection.discard(),
        }
    }
}

/// One message, so that the bounds cost no round trip. They end with the transaction, so that they
/// hold behind a connection pooler and in your own pool as well.
#[cfg(feature = "postgres")]
fn begin_statement(bound: Duration) -> String {
    let (statement, lock) = (
        timeout_setting(bound.saturating_add(SERVER_TIMEOUT_MARGIN)),
        timeout_setting((bound / 10).saturating_mul(9)),
    );
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
         SET LOCAL statement_timeout = {statement}; \
         SET LOCAL idle_in_transaction_session_timeout = {statement}; \
         SET LOCAL lock_timeout = {lock}"
    )
}

/// A timeout in milliseconds, as PostgreSQL takes it: an `int4`, and 0 is no limit.
#[cfg(feature = "postgres")]
pub(super) fn timeout_setting(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis())
        .unwrap_or(i32::MAX)
        .max(1)
}

impl Transaction<'_> {
    pub(super) fn session(&mut self) -> Session<'_> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(transaction) => Session::Sqlite(transaction),
            #[cfg(feature = "postgres")]
            Self::Postgres(transaction) => Session::Postgres(transaction),
        }
    }

    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(transaction) => transaction.commit().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }
}
