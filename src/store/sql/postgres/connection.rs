use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, Postgres};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};

use super::limit::Slot;
use super::server_health::ServerHealth;

/// How long a server may take to answer when a connection is returned.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a server may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a new connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that returns to its pool when dropped.
///
/// sqlx waits without a limit for an answer of the server before it reuses a connection. On a server
/// that hangs, every connection that is being returned would occupy its place in the pool.
#[expect(unreachable_pub, reason = "part of the bound of a public type")]
pub struct Lease {
    connection: PoolConnection<Postgres>,
    /// Released after the connection.
    slot: Option<Slot>,
    pool: PgPool,
    server_health: Arc<ServerHealth>,
    is_discarded: bool,
}

impl Lease {
    pub(super) fn new(
        connection: PoolConnection<Postgres>,
        slot: Slot,
        pool: PgPool,
        server_health: Arc<ServerHealth>,
    ) -> Self {
        Self {
            connection,
            slot: Some(slot),
            pool,
            server_health,
            is_discarded: false,
        }
    }

    /// Closes the connection when this is dropped.
    pub(super) fn discard(&mut self) {
        self.is_discarded = true;
        self.connection.close_on_drop();
    }
}

impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.is_discarded {
            return;
        }
        let release = self.connection.return_to_pool();
        let (pool, server_health) = (self.pool.clone(), Arc::clone(&self.server_health));
        let slot = self.slot.take();
        runtime.spawn(async move {
            let _slot = slot;
            if timeout(RELEASE_TIMEOUT, release).await.is_err() {
                // It may still work on a statement whose caller no longer waits.
                ping_idle(&pool, &server_health);
            }
        });
    }
}

/// Pings the idle connections of a pool, in a task. If one does not answer, all become suspect.
///
/// Called after one connection was late: its statement may be slow, or the server may be gone.
/// Connections in use have their own deadlines.
pub(super) fn ping_idle(pool: &PgPool, server_health: &Arc<ServerHealth>) {
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    let idle = take_idle(pool);
    if idle.is_empty() {
        return;
    }
    let (pool, server_health) = (pool.clone(), Arc::clone(server_health));
    runtime.spawn(async move {
        let answers = join_all(idle.into_iter().map(responds)).await;
        if answers.contains(&false) {
            server_health.mark_suspect();
            close_idle(&pool);
        }
    });
}

/// Closes the connection if it does not answer.
async fn responds(mut connection: PoolConnection<Postgres>) -> bool {
    let answered = timeout(PING_TIMEOUT, connection.ping()).await;
    let answers = matches!(answered, Ok(Ok(())));
    if !answers {
        connection.close_on_drop();
    }
    answers
}

/// Closes the idle connections of a pool.
pub(super) fn close_idle(pool: &PgPool) {
    for mut connection in take_idle(pool) {
        connection.close_on_drop();
    }
}

fn take_idle(pool: &PgPool) -> Vec<PoolConnection<Postgres>> {
    (0..pool.size()).map_while(|_| pool.try_acquire()).collect()
}

/// Returns whether a new connection accepts changes. If it does, the host name has moved to another
/// server than that of a connection that does not.
pub(super) async fn accepts_writes(options: &PgConnectOptions, deadline: Instant) -> bool {
    let accepts = async {
        let mut connection: PgConnection = options.connect().await?;
        connection.execute("BEGIN READ WRITE").await?;
        connection.close().await
    };
    matches!(
        timeout_at(deadline.min(Instant::now() + CONNECT_TIMEOUT), accepts).await,
        Ok(Ok(()))
    )
}
