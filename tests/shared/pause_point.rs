//! Pauses lookups, so that a test controls the order of events.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A point at which lookups wait until the test releases them.
pub struct PausePoint {
    closed: AtomicBool,
    reached: Semaphore,
    passed: Semaphore,
}

impl PausePoint {
    pub fn open() -> Self {
        Self {
            closed: AtomicBool::new(false),
            reached: Semaphore::new(0),
            passed: Semaphore::new(0),
        }
    }

    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Releases all lookups from now on.
    pub fn reopen(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// Waits until one more lookup has arrived.
    ///
    /// # Panics
    ///
    /// Panics if none arrives within a minute.
    pub async fn wait_until_reached(&self) {
        let reached = timeout(TIMEOUT, self.reached.acquire()).await;
        reached.expect("a lookup arrives in time").unwrap().forget();
    }

    /// Releases one lookup that has arrived.
    pub fn resume_one(&self) {
        self.passed.add_permits(1);
    }

    pub async fn pass(&self) {
        if self.closed.load(Ordering::SeqCst) {
            self.reached.add_permits(1);
            self.passed.acquire().await.unwrap().forget();
        }
    }
}
