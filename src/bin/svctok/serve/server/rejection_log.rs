use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many rejected requests have a line of their own per interval.
const LINES: u32 = 10;

const INTERVAL: Duration = Duration::from_secs(1);

/// Why a request is rejected before a handler is called, or while it waits for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RejectionCause {
    /// It does not fit into the budget, or into its client's share.
    Budget,
    /// Its connection is beyond the limit, and serves only health and metrics.
    Connections,
}

impl RejectionCause {
    /// Returns the text in the log.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Budget => "in-flight budget exhausted",
            Self::Connections => "connection limit reached",
        }
    }
}

/// Permits ten log lines per second, and counts what happens beyond that.
#[derive(Default)]
pub(super) struct RejectionLog {
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    since: Option<Instant>,
    lines: u32,
    budget: u64,
    connections: u64,
}

impl RejectionLog {
    /// Returns whether this rejection has a line of its own. If not, the next summary counts it.
    pub(super) fn permits(&self, cause: RejectionCause) -> bool {
        let mut window = self.window();
        if window.since.is_none_or(|since| since.elapsed() >= INTERVAL) {
            window.since = Some(Instant::now());
            window.lines = 0;
        }
        if window.lines < LINES {
            window.lines += 1;
            return true;
        }
        match cause {
            RejectionCause::Budget => window.budget += 1,
            RejectionCause::Connections => window.connections += 1,
        }
        false
    }

    /// Logs how many rejections had no line of their own since the last call, if there were any.
    pub(super) fn flush(&self) {
        let (budget, connections) = self.take();
        if budget > 0 {
            let count = budget;
            tracing::error!(count, "in-flight budget exhausted, rejecting requests");
        }
        if connections > 0 {
            let count = connections;
            tracing::error!(count, "connection limit reached, rejecting requests");
        }
    }

    fn take(&self) -> (u64, u64) {
        let mut window = self.window();
        let budget = std::mem::take(&mut window.budget);
        (budget, std::mem::take(&mut window.connections))
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn permits_ten_lines_per_second_and_counts_the_rest() {
        let log = RejectionLog::default();
        for _ in 0..2 {
            let lines = (0..15).filter(|_| log.permits(RejectionCause::Budget));
            assert_eq!(lines.count(), 10);
            assert!(!log.permits(RejectionCause::Connections));
            assert_eq!(log.take(), (5, 1));
            assert_eq!(log.take(), (0, 0));
            advance(INTERVAL).await;
        }
    }
}
