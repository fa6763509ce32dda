//! Steps of the time and of the tasks of a test.

use std::time::Duration;

/// Returns a duration that is one millisecond shorter.
pub fn just_before(time: Duration) -> Duration {
    time.checked_sub(Duration::from_millis(1)).unwrap()
}

/// Runs all other tasks of this thread until they wait for time to pass or for a message.
pub async fn run_other_tasks() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
