use std::fmt;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::LastUsed;
use crate::store::StoreError;

/// A task that [flushes](LastUsed::flush) at an interval. It ends when this handle is dropped,
/// without a last flush; [`stop`](Self::stop) flushes.
#[must_use = "the task ends when this is dropped"]
pub struct FlushTask {
    last_used: LastUsed,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl LastUsed {
    /// Spawns a task that flushes at this interval until the handle is dropped or stopped. A minute
    /// is a good interval: a token in constant use is written once a minute.
    ///
    /// A failed flush is logged (feature `tracing`) and retried at the next interval.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_service_token::MemoryStore;
    /// use tower_service_token::registry::LastUsed;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let last_used = LastUsed::new(MemoryStore::new());
    /// let flush_task = last_used.flush_every(Duration::from_secs(60));
    /// // … the server runs, and shuts down …
    /// flush_task.stop().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if the interval is zero, or there is no tokio runtime with a timer.
    pub fn flush_every(&self, period: Duration) -> FlushTask {
        let (stop, mut stopped) = oneshot::channel();
        assert!(!period.is_zero(), "an interval of zero would never rest");
        let last_used = self.clone();
        let task = tokio::spawn(async move {
            while timeout(period, &mut stopped).await.is_err() {
                // A flush that has begun is completed.
                if let Err(error) = last_used.flush().await {
                    log_flush_error(&error);
                }
            }
        });
        FlushTask {
            last_used: self.clone(),
            stop,
            task,
        }
    }
}

impl FlushTask {
    /// Ends the task after a last flush.
    ///
    /// # Errors
    ///
    /// Returns an error if the registry is unavailable.
    pub async fn stop(self) -> Result<(), StoreError> {
        // The task may have ended with its runtime.
        let _ = self.stop.send(());
        let _ = self.task.await;
        self.last_used.flush().await.map(drop)
    }
}

impl fmt::Debug for FlushTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlushTask")
            .field("last_used", &self.last_used)
            .finish_non_exhaustive()
    }
}

#[cfg(not(feature = "tracing"))]
fn log_flush_error(_: &StoreError) {}

#[cfg(feature = "tracing")]
fn log_flush_error(error: &StoreError) {
    let source = std::error::Error::source(error).map(tracing::field::display);
    tracing::warn!(target: "tower_service_token", %error, source, "last uses were not written");
}
