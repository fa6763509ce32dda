use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::serve::log_limiter::LogLimiter;

const MAX_LINES: u32 = 10;

const INTERVAL: Duration = Duration::from_secs(1);

/// Why a request is rejected before a handler is called, or while it waits for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RejectionCause {
    /// It does not fit into the budget, or into the share of its client.
    Budget,
    /// Its connection is beyond the limit and serves only health and metrics.
    Connections,
}

impl RejectionCause {
    /// Returns the text for the log.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Budget => "in-flight budget exhausted",
            Self::Connections => "connection limit reached",
        }
    }
}

/// Permits ten log lines per second, and counts the rejections beyond that by cause.
pub(super) struct RejectionLog {
    limiter: LogLimiter,
    skipped: [AtomicU64; 2],
}

impl RejectionLog {
    pub(super) const fn new() -> Self {
        Self {
            limiter: LogLimiter::new(MAX_LINES, INTERVAL),
            skipped: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }

    /// Returns whether this rejection has a line of its own. If not, the next summary counts it.
    pub(super) fn permits(&self, cause: RejectionCause) -> bool {
        let is_permitted = self.limiter.next().is_some();
        if !is_permitted {
            self.skipped[cause as usize].fetch_add(1, Ordering::Relaxed);
        }
        is_permitted
    }

    /// Logs how many rejections had no line of their own since the last call, if any.
    pub(super) fn flush(&self) {
        for cause in [RejectionCause::Budget, RejectionCause::Connections] {
            let count = self.take_skipped(cause);
            if count > 0 {
                tracing::error!(count, "{}, rejecting requests", cause.text());
            }
        }
    }

    fn take_skipped(&self, cause: RejectionCause) -> u64 {
        self.skipped[cause as usize].swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn permits_ten_lines_per_second_and_counts_the_rest() {
        let log = RejectionLog::new();
        let skipped = || {
            let causes = [RejectionCause::Budget, RejectionCause::Connections];
            causes.map(|cause| log.take_skipped(cause))
        };
        for _ in 0..2 {
            let lines = (0..15).filter(|_| log.permits(RejectionCause::Budget));
            assert_eq!(lines.count(), 10);
            assert!(!log.permits(RejectionCause::Connections));
            assert_eq!(skipped(), [5, 1]);
            assert_eq!(skipped(), [0, 0]);
            advance(INTERVAL).await;
        }
    }
}
