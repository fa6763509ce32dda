use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgPool, Postgres as PgDatabase};
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};
use tokio::time::Instant;

use super::connection::{self, Lease};
use super::limit::ConnectionLimit;
use super::listen::{Connector, listen};
use super::probe::{self, ConnectProbe};
use super::server_health::{self, ServerHealth};
use crate::store::sql::backend::{Access, Backend};
use crate::store::sql::failure::{Failure, Fault, before_deadline};
use crate::store::sql::feed_tracker::FeedTracker;

/// The connections to a PostgreSQL server.
#[derive(Clone)]
pub struct Postgres {
    pub(super) pool: PgPool,
    pub(super) limit: Arc<ConnectionLimit>,
    pub(super) probe: Arc<ConnectProbe>,
    pub(super) server_health: Arc<ServerHealth>,
    pub(super) connector: Arc<Connector>,
    /// Whether the pool replaces suspect connections when it acquires them.
    pub(super) replaces_suspects: bool,
}

impl Postgres {
    fn has_connections(&self) -> bool {
        self.limit.is_in_use() || self.pool.num_idle() > 0
    }

    /// Returns whether new connections lead to a server that accepts changes.
    async fn has_moved(&self, deadline: Instant) -> bool {
        if let Some(accepts) = self.server_health.recent_write_probe() {
            return accepts;
        }
        let options = self.pool.connect_options();
        let accepts = connection::accepts_writes(&options, deadline).await;
        self.server_health.set_write_probe(accepts);
        accepts
    }
}

impl Backend for Postgres {
    type Database = PgDatabase;
    type Lease = Lease;

    fn acquire(&self, _: Access) -> BoxFuture<'_, Result<Lease, sqlx::Error>> {
        let close = |mut connection: PoolConnection<PgDatabase>| connection.close_on_drop();
        Box::pin(async move {
            loop {
                let slot = self.limit.acquire().await;
                let acquire = self.probe.watch(Box::pin(self.pool.acquire()));
                match server_health::acquire(acquire, close).await {
                    Ok(connection) => {
                        let server_health = Arc::clone(&self.server_health);
                        let pool = self.pool.clone();
                        return Ok(Lease::new(connection, slot.connect(), pool, server_health));
                    }
                    // Waits for a connection that is in use instead.
                    Err(error) if probe::has_no_slot(&error) && self.has_connections() => {
                        let _ = slot.withhold();
                    }
                    Err(error) => return Err(error),
                }
            }
        })
    }

    /// Sets the limits in the same message, so that they cost no round trip. They end with the
    /// transaction, so they also work behind a connection pooler and in the pool of an application.
    fn begin_statement(limit: Duration, lock_limit: Duration) -> SqlStr {
        let statement = server_health::timeout_setting(
            limit.saturating_add(server_health::SERVER_TIMEOUT_MARGIN),
        );
        let lock = server_health::timeout_setting(lock_limit);
        AssertSqlSafe(format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
             SET LOCAL statement_timeout = {statement}; \
             SET LOCAL idle_in_transaction_session_timeout = {statement}; \
             SET LOCAL lock_timeout = {lock}"
        ))
        .into_sql_str()
    }

    fn handle_fault<'a>(
        &'a self,
        lease: &'a mut Lease,
        fault: Fault,
        deadline: Instant,
    ) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let is_server_gone = match fault {
                Fault::None => return true,
                // The connection still serves lookups.
                Fault::ReadOnly if !self.has_moved(deadline).await => return false,
                Fault::ReadOnly | Fault::Server => true,
                Fault::Connection | Fault::Transaction => false,
                Fault::TimedOut => {
                    connection::ping_idle(&self.pool, &self.server_health);
                    false
                }
            };
            lease.discard();
            if is_server_gone {
                self.server_health.mark_suspect();
                if !self.replaces_suspects {
                    connection::close_idle(&self.pool);
                }
            }
            true
        })
    }

    /// After a failure, a pool that replaces suspect connections opens a new one. Another pool may
    /// have more connections that failed unnoticed.
    fn max_retries(&self) -> u32 {
        if self.replaces_suspects {
            1
        } else {
            self.pool.size() + 1
        }
    }

    fn set_deadline(&self, deadline: Duration) {
        self.server_health.extend_deadline(deadline);
    }

    fn watch(&self, feed: Arc<FeedTracker>) -> Option<BoxFuture<'static, ()>> {
        Some(Box::pin(listen(Arc::clone(&self.connector), feed)))
    }

    fn is_closed(&self) -> bool {
        self.pool.is_closed()
    }

    fn close(&self, deadline: Instant) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(before_deadline(deadline, self.pool.close()))
    }
}
