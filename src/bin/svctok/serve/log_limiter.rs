use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::Counter;
use tokio::time::Instant;

/// Limits log lines to a number per interval, and counts the skipped ones.
pub(super) struct LogLimiter {
    max_lines: u32,
    interval: Duration,
    window: Mutex<Window>,
    /// Registered at its first use, when the recorder is installed.
    skipped: OnceLock<Counter>,
}

struct Window {
    since: Option<Instant>,
    lines: u32,
    skipped: u64,
}

impl LogLimiter {
    pub(super) const fn new(max_lines: u32, interval: Duration) -> Self {
        let window = Window {
            since: None,
            lines: 0,
            skipped: 0,
        };
        Self {
            max_lines,
            interval,
            window: Mutex::new(window),
            skipped: OnceLock::new(),
        }
    }

    /// Creates a limit of 200 lines per second for what clients without a token can cause, so that
    /// they cannot fill a disk.
    pub(super) const fn for_clients() -> Self {
        Self::new(200, Duration::from_secs(1))
    }

    /// Returns how many lines were skipped since the last one, or `None` if this line is skipped.
    pub(super) fn next(&self) -> Option<u64> {
        let now = Instant::now();
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |since| now.saturating_duration_since(since) >= self.interval;
        if window.since.is_none_or(is_over) {
            window.since = Some(now);
            window.lines = 0;
        }
        if window.lines == self.max_lines {
            window.skipped += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.skipped))
    }

    /// Like [`next`](Self::next), and counts a skipped line in a metric.
    pub(super) fn next_counted(&self) -> Option<u64> {
        let skipped = self.next();
        if skipped.is_none() {
            let counter = || metrics::counter!("svctok_log_lines_skipped_total");
            self.skipped.get_or_init(counter).increment(1);
        }
        skipped
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn counts_the_lines_beyond_the_limit() {
        let limiter = LogLimiter::for_clients();
        let logged = (0..1_000).filter(|_| limiter.next().is_some()).count();
        assert_eq!(logged, 200);
        advance(Duration::from_secs(2)).await;
        assert_eq!(limiter.next(), Some(800));
        assert_eq!(limiter.next(), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn permits_one_line_per_interval() {
        let interval = Duration::from_secs(10);
        let limiter = LogLimiter::new(1, interval);
        assert_eq!(limiter.next(), Some(0));
        assert_eq!(limiter.next(), None);
        advance(interval).await;
        assert_eq!(limiter.next(), Some(1));
    }
}
