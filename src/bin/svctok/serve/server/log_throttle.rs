use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines about the same thing.
const INTERVAL: Duration = Duration::from_secs(10);

/// Permits one log line per interval of 10 s, and counts what happens between two.
#[derive(Default)]
pub(super) struct LogThrottle {
    state: Mutex<(Option<Instant>, u64)>,
}

impl LogThrottle {
    /// Returns how often it happened since the last line if a line is due.
    pub(super) fn record(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, count) = &mut *state;
        *count += 1;
        if last.is_some_and(|last| last.elapsed() < INTERVAL) {
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(count))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn permits_a_line_per_interval() {
        let throttle = LogThrottle::default();
        assert_eq!(throttle.record(), Some(1));
        assert_eq!(throttle.record(), None);
        advance(INTERVAL).await;
        assert_eq!(throttle.record(), Some(2));
    }
}
