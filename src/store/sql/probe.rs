//! Finds out whether open connections still lead to a server that serves.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, Postgres};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};

use super::server_health::ServerHealth;

/// How long a server may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a new connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Pings the idle connections of a pool, in a task, after one connection was late: a slow statement
/// says nothing about the others. If one does not answer, all become suspect. Those in use have
/// deadlines of their own.
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

/// Returns whether a new connection accepts changes: then those that do not lead to a server that the
/// name no longer leads to.
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
