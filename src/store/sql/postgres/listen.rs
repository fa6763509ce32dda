use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Executor, Row};
use tokio::time::{sleep, timeout};

use super::target::{self, TargetSessionAttrs};
use crate::clock::jittered;
use crate::store::sql::dialect::CHANNEL;
use crate::store::sql::failure;
use crate::store::sql::feed_tracker::FeedTracker;
use crate::store::sql::notification;
use crate::store::sql::server_health::{self, ServerHealth};
use crate::store::{ChangeFeed, TokenChange};

/// Silence after which the connection is asked whether it still is one, and how long the answer
/// may take.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

const MIN_BACKOFF: Duration = Duration::from_millis(100);

const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Only a primary notifies.
const IS_IN_RECOVERY: &str = "SELECT pg_is_in_recovery()";

/// Makes the connections to listen by.
#[derive(Clone)]
pub(super) struct Connector {
    options: PgConnectOptions,
    server_health: Arc<ServerHealth>,
    target: TargetSessionAttrs,
}

/// Publishes the changes that any connection makes.
///
/// 1. When it begins to listen, anything may have changed before; that is told. That it stopped
///    hearing is not: what caches hold is as old as they allow and no older, and they may need it
///    while the server is away.
/// 2. It comes back by itself, after a pause that doubles and is never twice the same.
/// 3. What this process changed is told once more.
/// 4. A loss is logged once, and so is the return.
pub(super) async fn listen(connector: Connector, feed: ChangeFeed, status: Arc<FeedTracker>) {
    let mut backoff = MIN_BACKOFF;
    loop {
        let cause = match connector.connect().await {
            Ok(listener) => {
                backoff = MIN_BACKOFF;
                status.set_connected();
                feed.publish(&TokenChange::Everything);
                connector.receive(listener, &feed).await
            }
            Err(error) => failure::message(&error),
        };
        status.set_lost(&cause);
        sleep(jittered(backoff)).await;
        backoff = MAX_BACKOFF.min(backoff * 2);
    }
}

impl Connector {
    pub(super) fn new(
        options: PgConnectOptions,
        server_health: Arc<ServerHealth>,
        target: TargetSessionAttrs,
    ) -> Self {
        Self {
            options,
            server_health,
            target,
        }
    }

    async fn connect(&self) -> Result<PgListener, sqlx::Error> {
        let (server_health, target) = (Arc::clone(&self.server_health), self.target);
        // A pool of its own each time: a connection that hangs would block the only place.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(KEEPALIVE_TIMEOUT)
            .after_connect(move |connection, _| {
                let server_health = Arc::clone(&server_health);
                Box::pin(async move { target::prepare(connection, &server_health, target).await })
            })
            .connect_lazy_with(self.options.clone());
        let listener = Box::pin(PgListener::connect_with(&pool));
        let mut listener = server_health::acquire(listener, drop).await?;
        listener.eager_reconnect(false);
        // A standby refuses.
        let listening = timeout(KEEPALIVE_TIMEOUT, listener.listen(CHANNEL)).await;
        listening.map_err(|_| sqlx::Error::PoolTimedOut)??;
        Ok(listener)
    }

    /// Returns why the connection is of no more use: it is lost, so silent that it may be, or
    /// leads to a server that does not notify.
    async fn receive(&self, mut listener: PgListener, feed: &ChangeFeed) -> String {
        let mut failures = self.server_health.failures();
        loop {
            let received = {
                let receive = pin!(timeout(KEEPALIVE_TIMEOUT, listener.try_recv()));
                match select(receive, pin!(failures.changed())).await {
                    Either::Left((received, _)) => received.ok(),
                    // Another connection failed: this one may have too.
                    Either::Right(_) => None,
                }
            };
            match received {
                Some(Ok(Some(message))) => feed.publish(&notification::decode(message.payload())),
                Some(Ok(None)) => return "the server closed the connection".to_owned(),
                Some(Err(error)) => return failure::message(&error),
                None => {
                    if let Some(cause) = check(&mut listener).await {
                        return cause;
                    }
                }
            }
        }
    }
}

/// Returns what is wrong with a connection.
async fn check(listener: &mut PgListener) -> Option<String> {
    let answer = timeout(KEEPALIVE_TIMEOUT, listener.fetch_one(IS_IN_RECOVERY)).await;
    match answer.map(|row| row?.try_get(0)) {
        Ok(Ok(false)) => None,
        Ok(Ok(true)) => Some("the server is a standby now".to_owned()),
        Ok(Err(error)) => Some(failure::message(&error)),
        Err(_) => Some("the server does not answer".to_owned()),
    }
}
