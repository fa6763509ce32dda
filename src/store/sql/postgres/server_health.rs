use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task_local;

/// How much longer the server may work on a statement than this process waits for it.
pub(super) const SERVER_TIMEOUT_MARGIN: Duration = Duration::from_millis(500);

/// Shorter than the 5 s within which changes work again after a failover.
const WRITE_PROBE_INTERVAL: Duration = Duration::from_secs(1);

task_local! {
    /// Why the connection that this task opens must not be used.
    static REJECTION: Cell<Option<&'static str>>;
}

/// The server that the connections of a store lead to.
///
/// A failover moves the host name to another server. Connections do not move, so those that were
/// opened before one of them failed are suspect.
pub(super) struct ServerHealth {
    failed_at: watch::Sender<Option<Instant>>,
    /// When a new connection was last tested for whether it accepts changes, and the result. `false`
    /// until the result is known.
    write_probe: Mutex<Option<(Instant, bool)>>,
    /// In milliseconds.
    longest_deadline: AtomicU64,
}

impl ServerHealth {
    pub(super) fn new(deadline: Duration) -> Self {
        Self {
            failed_at: watch::Sender::new(None),
            write_probe: Mutex::new(None),
            longest_deadline: AtomicU64::new(millis(deadline)),
        }
    }

    /// Marks every connection opened until now as suspect.
    pub(super) fn mark_suspect(&self) {
        self.failed_at.send_replace(Some(Instant::now()));
    }

    /// Returns whether a connection of this age was opened before a failure.
    pub(super) fn is_suspect(&self, age: Duration) -> bool {
        let failed_at = *self.failed_at.borrow();
        failed_at.is_some_and(|failed_at| failed_at.elapsed() <= age)
    }

    /// Returns the result of the last test of a new connection, or `None` if the caller must make
    /// another one. There is one test per second.
    pub(super) fn recent_write_probe(&self) -> Option<bool> {
        let mut last = self.write_probe();
        match *last {
            Some((at, accepts)) if at.elapsed() < WRITE_PROBE_INTERVAL => Some(accepts),
            _ => {
                *last = Some((Instant::now(), false));
                None
            }
        }
    }

    /// Stores the result of a test.
    pub(super) fn set_write_probe(&self, accepts: bool) {
        *self.write_probe() = Some((Instant::now(), accepts));
    }

    fn write_probe(&self) -> MutexGuard<'_, Option<(Instant, bool)>> {
        self.write_probe
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribes to failures.
    pub(super) fn failures(&self) -> watch::Receiver<Option<Instant>> {
        self.failed_at.subscribe()
    }

    /// Extends the longest deadline. Replaces connections that end statements earlier.
    pub(super) fn extend_deadline(&self, deadline: Duration) {
        let deadline = millis(deadline);
        if self.longest_deadline.fetch_max(deadline, Ordering::Relaxed) < deadline {
            self.mark_suspect();
        }
    }

    /// Returns the longest deadline of the stores that share the connections.
    pub(super) fn longest_deadline(&self) -> Duration {
        Duration::from_millis(self.longest_deadline.load(Ordering::Relaxed))
    }
}

/// Rejects the connection that this task is opening. If this were an error, sqlx would log it and open
/// another connection, until the deadline.
pub(super) fn reject(reason: &'static str) -> Result<(), sqlx::Error> {
    let noted = REJECTION.try_with(|rejection| rejection.set(Some(reason)));
    noted.map_err(|_| rejected(reason))
}

/// Acquires a connection; `close` closes one that is rejected.
///
/// # Errors
///
/// Returns an error if the connection is rejected, or could not be acquired.
pub(super) async fn acquire<T>(
    acquire: impl Future<Output = Result<T, sqlx::Error>>,
    close: impl FnOnce(T),
) -> Result<T, sqlx::Error> {
    let acquire = async {
        let connection = acquire.await?;
        match REJECTION.with(Cell::get) {
            Some(reason) => {
                close(connection);
                Err(rejected(reason))
            }
            None => Ok(connection),
        }
    };
    REJECTION.scope(Cell::new(None), acquire).await
}

fn rejected(reason: &'static str) -> sqlx::Error {
    sqlx::Error::Io(io::Error::other(reason))
}

/// Returns a timeout in milliseconds as PostgreSQL takes it: an `int4`, where 0 means no limit.
pub(super) fn timeout_setting(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis())
        .unwrap_or(i32::MAX)
        .max(1)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_from_before_a_failure_are_suspect() {
        let server_health = ServerHealth::new(Duration::from_secs(3));
        assert!(!server_health.is_suspect(Duration::from_secs(60)));
        server_health.mark_suspect();
        assert!(server_health.is_suspect(Duration::from_secs(60)));
        // The clock moves between a failure and the next connection.
        std::thread::sleep(Duration::from_nanos(1));
        assert!(!server_health.is_suspect(Duration::ZERO));
    }

    #[test]
    fn limits_write_probes_to_one_per_interval() {
        let server_health = ServerHealth::new(Duration::from_secs(3));
        assert_eq!(server_health.recent_write_probe(), None);
        assert_eq!(server_health.recent_write_probe(), Some(false));
        server_health.set_write_probe(true);
        assert_eq!(server_health.recent_write_probe(), Some(true));
    }

    #[test]
    fn a_longer_deadline_replaces_connections() {
        let server_health = ServerHealth::new(Duration::from_secs(3));
        server_health.extend_deadline(Duration::from_secs(2));
        assert!(!server_health.is_suspect(Duration::from_secs(60)));
        server_health.extend_deadline(Duration::from_secs(4));
        assert!(server_health.is_suspect(Duration::from_secs(60)));
        assert_eq!(server_health.longest_deadline(), Duration::from_secs(4));
    }
}
