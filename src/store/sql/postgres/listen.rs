use std::time::Duration;

use sqlx::Executor;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::{sleep, timeout};

use crate::store::sql::dialect::CHANNEL;
use crate::store::sql::notice;
use crate::store::{ChangeFeed, TokenChange};

/// Silence after which the connection is asked whether it still is one, and how long the answer
/// may take.
const HEARTBEAT: Duration = Duration::from_secs(3);

const FIRST_PAUSE: Duration = Duration::from_millis(100);

const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Tells of what any connection changes, those of other processes too.
///
/// 1. When it begins to listen, anything may have changed before; that is told. That it stopped
///    hearing is not: what caches hold is as old as they allow and no older, and they may need it
///    while the server is away.
/// 2. It comes back by itself, after a pause that doubles and is never twice the same.
/// 3. What this process changed is told once more.
pub(super) async fn listen(options: PgConnectOptions, feed: ChangeFeed) {
    let mut pause = FIRST_PAUSE;
    loop {
        // What went wrong shows in the requests as well.
        if let Ok(listener) = begin(&options).await {
            pause = FIRST_PAUSE;
            feed.publish(&TokenChange::Everything);
            follow(listener, &feed).await;
        }
        sleep(jittered(pause)).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

async fn begin(options: &PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    // A pool of its own each time: a connection that hangs would block the only place.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(HEARTBEAT)
        .connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    let listening = timeout(HEARTBEAT, listener.listen(CHANNEL)).await;
    listening.map_err(|_| sqlx::Error::PoolTimedOut)??;
    Ok(listener)
}

/// Returns when the connection is lost, or so silent that it may be.
async fn follow(mut listener: PgListener, feed: &ChangeFeed) {
    loop {
        match timeout(HEARTBEAT, listener.try_recv()).await {
            Ok(Ok(Some(told))) => feed.publish(&notice::read(told.payload())),
            Ok(Ok(None) | Err(_)) => return,
            Err(_) => {
                let beat = timeout(HEARTBEAT, listener.execute("SELECT 1")).await;
                if !matches!(beat, Ok(Ok(_))) {
                    return;
                }
            }
        }
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
