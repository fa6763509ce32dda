use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Executor, Row};
use tokio::time::{sleep, timeout};

use super::target::{self, TargetSession};
use crate::store::sql::dialect::CHANNEL;
use crate::store::sql::endpoint::{self, Endpoint};
use crate::store::sql::failure;
use crate::store::sql::feed_status::FeedStatus;
use crate::store::sql::notice;
use crate::store::{ChangeFeed, TokenChange};

/// Silence after which the connection is asked whether it still is one, and how long the answer
/// may take.
const HEARTBEAT: Duration = Duration::from_secs(3);

const FIRST_PAUSE: Duration = Duration::from_millis(100);

const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Only a primary notifies.
const IS_IN_RECOVERY: &str = "SELECT pg_is_in_recovery()";

/// Makes the connections to listen by.
#[derive(Clone)]
pub(super) struct Connector {
    options: PgConnectOptions,
    endpoint: Arc<Endpoint>,
    target: TargetSession,
}

/// Publishes the changes that any connection makes.
///
/// 1. When it begins to listen, anything may have changed before; that is told. That it stopped
///    hearing is not: what caches hold is as old as they allow and no older, and they may need it
///    while the server is away.
/// 2. It comes back by itself, after a pause that doubles and is never twice the same.
/// 3. What this process changed is told once more.
/// 4. A loss is logged once, and so is the return.
pub(super) async fn listen(connector: Connector, feed: ChangeFeed, status: Arc<FeedStatus>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let cause = match connector.connect().await {
            Ok(listener) => {
                pause = FIRST_PAUSE;
                status.set_connected();
                feed.publish(&TokenChange::Everything);
                connector.follow(listener, &feed).await
            }
            Err(error) => failure::text(&error),
        };
        status.set_lost(&cause);
        sleep(jittered(pause)).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

impl Connector {
    pub(super) fn new(
        options: PgConnectOptions,
        endpoint: Arc<Endpoint>,
        target: TargetSession,
    ) -> Self {
        Self {
            options,
            endpoint,
            target,
        }
    }

    async fn connect(&self) -> Result<PgListener, sqlx::Error> {
        let (endpoint, target) = (Arc::clone(&self.endpoint), self.target);
        // A pool of its own each time: a connection that hangs would block the only place.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(HEARTBEAT)
            .after_connect(move |connection, _| {
                let endpoint = Arc::clone(&endpoint);
                Box::pin(async move { target::prepare(connection, &endpoint, target).await })
            })
            .connect_lazy_with(self.options.clone());
        let listener = Box::pin(PgListener::connect_with(&pool));
        let mut listener = endpoint::acquire(listener, drop).await?;
        listener.eager_reconnect(false);
        // A standby refuses.
        let listening = timeout(HEARTBEAT, listener.listen(CHANNEL)).await;
        listening.map_err(|_| sqlx::Error::PoolTimedOut)??;
        Ok(listener)
    }

    /// Returns why the connection is of no more use: it is lost, so silent that it may be, or
    /// leads to a server that does not notify.
    async fn follow(&self, mut listener: PgListener, feed: &ChangeFeed) -> String {
        let mut failures = self.endpoint.failures();
        loop {
            let received = {
                let receive = pin!(timeout(HEARTBEAT, listener.try_recv()));
                match select(receive, pin!(failures.changed())).await {
                    Either::Left((received, _)) => received.ok(),
                    // Another connection failed: this one may have too.
                    Either::Right(_) => None,
                }
            };
            match received {
                Some(Ok(Some(told))) => feed.publish(&notice::read(told.payload())),
                Some(Ok(None)) => return "the server closed the connection".to_owned(),
                Some(Err(error)) => return failure::text(&error),
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
    let answer = timeout(HEARTBEAT, listener.fetch_one(IS_IN_RECOVERY)).await;
    match answer.map(|row| row?.try_get(0)) {
        Ok(Ok(false)) => None,
        Ok(Ok(true)) => Some("the server is a standby now".to_owned()),
        Ok(Err(error)) => Some(failure::text(&error)),
        Err(_) => Some("the server does not answer".to_owned()),
    }
}

/// From half of the pause to all of it, so that a crowd does not come back at once.
fn jittered(pause: Duration) -> Duration {
    let part = getrandom::u32().unwrap_or(u32::MAX);
    let part = f64::from(part) / f64::from(u32::MAX);
    pause.mul_f64(f64::midpoint(1.0, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_cut_by_half_at_most() {
        for _ in 0..100 {
            let pause = jittered(LONGEST_PAUSE);
            assert!(pause >= LONGEST_PAUSE / 2 && pause <= LONGEST_PAUSE);
        }
    }
}
