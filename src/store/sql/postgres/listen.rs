use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};
use sqlx::{Executor, Row};
use tokio::time::{sleep, timeout};

use super::limit::ConnectionLimit;
use super::probe::{self, ConnectProbe};
use super::server_health::{self, ServerHealth};
use super::target_session::{self, TargetSessionAttrs};
use crate::clock::jittered;
use crate::store::sql::failure;
use crate::store::sql::feed_tracker::FeedTracker;
use crate::store::sql::notification;

/// The channel of notifications. Each database has its own.
const CHANNEL: &str = "service_token_changes";

/// How long a connection may be silent before it is checked, and how long the answer may take.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

const MIN_BACKOFF: Duration = Duration::from_millis(100);

const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// A standby does not notify.
const IS_IN_RECOVERY: &str = "SELECT pg_is_in_recovery()";

/// Opens the connections that listen.
pub(super) struct Connector {
    /// The pool of all other connections.
    pub(super) pool: PgPool,
    pub(super) limit: Arc<ConnectionLimit>,
    pub(super) probe: Arc<ConnectProbe>,
    pub(super) server_health: Arc<ServerHealth>,
    pub(super) target: TargetSessionAttrs,
}

/// Publishes the changes that any connection makes.
///
/// - When it starts to listen, anything may have changed, so it publishes
///   [`Everything`](crate::store::TokenChange::Everything). It publishes nothing when the connection is lost: cached entries are
///   within their TTL, and callers may need them while the server is unreachable.
/// - It reconnects with exponential backoff and jitter.
/// - It publishes the changes of this process a second time.
/// - It logs a loss once, and the recovery.
/// - If the server has no slot for its connection, the pool gives one up.
pub(super) async fn listen(connector: Arc<Connector>, feed: Arc<FeedTracker>) {
    let mut backoff = MIN_BACKOFF;
    loop {
        let cause = match connector.connect().await {
            Ok(listener) => {
                backoff = MIN_BACKOFF;
                feed.set_connected();
                connector.receive(listener, &feed).await
            }
            Err(error) => {
                if probe::has_no_slot(&error) {
                    connector.give_up_connection().await;
                }
                failure::message(&error)
            }
        };
        feed.set_lost(&cause);
        sleep(jittered(backoff)).await;
        backoff = MAX_BACKOFF.min(backoff * 2);
    }
}

impl Connector {
    async fn connect(&self) -> Result<PgListener, sqlx::Error> {
        let (server_health, target) = (Arc::clone(&self.server_health), self.target);
        // A new pool each time, because a connection that hangs would block its only place.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(KEEPALIVE_TIMEOUT)
            .after_connect(move |connection, _| {
                let server_health = Arc::clone(&server_health);
                Box::pin(async move {
                    target_session::prepare(connection, &server_health, target).await
                })
            })
            .connect_lazy_with((*self.pool.connect_options()).clone());
        let listener = self.probe.watch(Box::pin(PgListener::connect_with(&pool)));
        let mut listener = server_health::acquire(listener, drop).await?;
        listener.eager_reconnect(false);
        // A standby refuses to listen.
        let listening = timeout(KEEPALIVE_TIMEOUT, listener.listen(CHANNEL)).await;
        listening.map_err(|_| sqlx::Error::PoolTimedOut)??;
        Ok(listener)
    }

    /// Closes a connection of the pool, which uses one less for a while, unless it is the only one.
    async fn give_up_connection(&self) {
        if !self.limit.is_in_use() && self.pool.num_idle() == 0 {
            return;
        }
        let is_withheld = self.limit.acquire().await.withhold();
        if is_withheld && let Some(connection) = self.pool.try_acquire() {
            // Its slot on the server is free in any case.
            let _ = timeout(KEEPALIVE_TIMEOUT, connection.close()).await;
        }
    }

    /// Publishes changes until the connection is lost, does not answer, or leads to a server that does
    /// not notify, and returns which.
    async fn receive(&self, mut listener: PgListener, feed: &FeedTracker) -> String {
        let mut failures = self.server_health.failures();
        loop {
            let received = {
                let receive = pin!(timeout(KEEPALIVE_TIMEOUT, listener.try_recv()));
                match select(receive, pin!(failures.changed())).await {
                    Either::Left((received, _)) => received.ok(),
                    // Another connection failed, so this one may have too.
                    Either::Right(_) => None,
                }
            };
            match received {
                Some(Ok(Some(received))) => {
                    feed.publish(&notification::decode(received.payload()));
                }
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

/// Returns why a connection is not usable.
async fn check(listener: &mut PgListener) -> Option<String> {
    let answer = timeout(KEEPALIVE_TIMEOUT, listener.fetch_one(IS_IN_RECOVERY)).await;
    match answer.map(|row| row?.try_get(0)) {
        Ok(Ok(false)) => None,
        Ok(Ok(true)) => Some("the server is a standby now".to_owned()),
        Ok(Err(error)) => Some(failure::message(&error)),
        Err(_) => Some("the server does not respond".to_owned()),
    }
}
