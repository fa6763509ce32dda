use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many lines about rejected and anonymous requests are logged per second.
const LINES_PER_SECOND: u32 = 200;

const SECOND: Duration = Duration::from_secs(1);

/// Limits the log lines that a client without a token can cause, so that it cannot fill a disk.
pub(super) struct LineLimit(Mutex<Window>);

struct Window {
    since: Instant,
    lines: u32,
    skipped: u64,
}

/// Whether a line is logged.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LineDecision {
    /// It is, after a line that says how many were skipped before, if any.
    Log {
        skipped: Option<u64>,
    },
    Skip,
}

impl LineLimit {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Window {
            since: Instant::now(),
            lines: 0,
            skipped: 0,
        }))
    }

    /// Counts a line that is skipped in a metric.
    pub(super) fn next(&self, now: Instant) -> LineDecision {
        let line = self.decide(now);
        if line == LineDecision::Skip {
            metrics::counter!("svctok_log_lines_skipped_total").increment(1);
        }
        line
    }

    fn decide(&self, now: Instant) -> LineDecision {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut skipped = None;
        if now.saturating_duration_since(window.since) >= SECOND {
            skipped = (window.skipped > 0).then_some(window.skipped);
            *window = Window {
                since: now,
                lines: 0,
                skipped: 0,
            };
        }
        if window.lines == LINES_PER_SECOND {
            window.skipped += 1;
            return LineDecision::Skip;
        }
        window.lines += 1;
        LineDecision::Log { skipped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_lines_per_second_and_counts_the_rest() {
        let limit = LineLimit::new();
        let start = Instant::now();
        let logged = (0..1_000)
            .filter(|_| limit.next(start) != LineDecision::Skip)
            .count();
        assert_eq!(logged, 200);
        let later = start + SECOND + SECOND;
        let skipped = Some(800);
        assert_eq!(limit.next(later), LineDecision::Log { skipped });
        assert_eq!(limit.next(later), LineDecision::Log { skipped: None });
    }
}
