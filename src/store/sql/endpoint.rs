use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// What is known about the server that the connections of a store lead to.
///
/// In a failover the name of a server comes to lead to another one. Connections stay where they are,
/// so those that were opened before one of them failed are suspect.
pub(super) struct Endpoint {
    failed_at: watch::Sender<Option<Instant>>,
    /// In milliseconds.
    longest_deadline: AtomicU64,
    rejection: Mutex<Option<&'static str>>,
}

impl Endpoint {
    pub(super) fn new(deadline: Duration) -> Self {
        Self {
            failed_at: watch::Sender::new(None),
            longest_deadline: AtomicU64::new(millis(deadline)),
            rejection: Mutex::new(None),
        }
    }

    /// Makes every connection suspect that was opened until now.
    pub(super) fn suspect(&self) {
        self.failed_at.send_replace(Some(Instant::now()));
    }

    /// Returns whether a connection of this age was opened before a failure.
    pub(super) fn is_suspect(&self, age: Duration) -> bool {
        let failed_at = *self.failed_at.borrow();
        failed_at.is_some_and(|failed_at| failed_at.elapsed() <= age)
    }

    /// Waits for failures.
    pub(super) fn failures(&self) -> watch::Receiver<Option<Instant>> {
        self.failed_at.subscribe()
    }

    /// Takes note of a store's deadline. Connections that end statements earlier are replaced.
    pub(super) fn extend_deadline(&self, deadline: Duration) {
        let deadline = millis(deadline);
        if self.longest_deadline.fetch_max(deadline, Ordering::Relaxed) < deadline {
            self.suspect();
        }
    }

    /// Returns the longest deadline of the stores that share the connections.
    pub(super) fn longest_deadline(&self) -> Duration {
        Duration::from_millis(self.longest_deadline.load(Ordering::Relaxed))
    }

    /// Notes why the last connection was rejected, or that it was accepted.
    pub(super) fn set_rejection(&self, rejection: Option<&'static str>) {
        *self
            .rejection
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = rejection;
    }

    pub(super) fn rejection(&self) -> Option<&'static str> {
        *self
            .rejection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_from_before_a_failure_are_suspect() {
        let endpoint = Endpoint::new(Duration::from_secs(3));
        assert!(!endpoint.is_suspect(Duration::from_secs(60)));
        endpoint.suspect();
        assert!(endpoint.is_suspect(Duration::from_secs(60)));
        // The clock moves between a failure and the next connection.
        std::thread::sleep(Duration::from_nanos(1));
        assert!(!endpoint.is_suspect(Duration::ZERO));
    }

    #[test]
    fn a_longer_deadline_replaces_connections() {
        let endpoint = Endpoint::new(Duration::from_secs(3));
        endpoint.extend_deadline(Duration::from_secs(2));
        assert!(!endpoint.is_suspect(Duration::from_secs(60)));
        endpoint.extend_deadline(Duration::from_secs(4));
        assert!(endpoint.is_suspect(Duration::from_secs(60)));
        assert_eq!(endpoint.longest_deadline(), Duration::from_secs(4));
    }
}
