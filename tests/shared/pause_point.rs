//! Where lookups are held up, so that a test decides what happens first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);

/// A place where lookups stop until they are let go.
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

    /// Lets through who comes from now on.
    pub fn reopen(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// Waits until one more lookup has come here.
    ///
    /// # Panics
    ///
    /// None comes.
    pub async fn wait_until_reached(&self) {
        let reached = timeout(LONG, self.reached.acquire()).await;
        reached.expect("a lookup comes here").unwrap().forget();
    }

    /// Lets go one lookup that came here.
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
