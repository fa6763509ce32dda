use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool, Postgres};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::probe;
use super::server_health::ServerHealth;

/// How long a server may take to answer when a connection is given back.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that its pool has back when this is dropped.
///
/// sqlx waits for an answer of the server before it reuses a connection, without a limit: a server
/// that hangs would keep the place of each connection that is being given back.
pub(super) struct ReleaseGuard {
    connection: PoolConnection<Postgres>,
    pool: PgPool,
    server_health: Arc<ServerHealth>,
    is_discarded: bool,
}

impl ReleaseGuard {
    pub(super) fn new(
        connection: PoolConnection<Postgres>,
        pool: PgPool,
        server_health: Arc<ServerHealth>,
    ) -> Self {
        Self {
            connection,
            pool,
            server_health,
            is_discarded: false,
        }
    }

    pub(super) fn get_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Closes the connection when this is dropped.
    pub(super) fn discard(&mut self) {
        self.is_discarded = true;
        self.connection.close_on_drop();
    }
}

impl Drop for ReleaseGuard {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.is_discarded {
            return;
        }
        let release = self.connection.return_to_pool();
        let (pool, server_health) = (self.pool.clone(), Arc::clone(&self.server_health));
        runtime.spawn(async move {
            if timeout(RELEASE_TIMEOUT, release).await.is_err() {
                // It may still work on a statement that its caller no longer waits for.
                probe::ping_idle(&pool, &server_health);
            }
        });
    }
}
