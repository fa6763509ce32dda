use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::LastUsed;
use crate::store::StoreError;

/// A task that [flushes](LastUsed::flush) at an interval. It ends when this handle is dropped,
/// without a last flush; [`stop`](Self::stop) flushes.
#[derive(Debug)]
#[must_use = "the task ends when this is dropped"]
pub struct FlushTask {
    last_used: LastUsed,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl LastUsed {
    /// Spawns a task that flushes at this interval until the handle is dropped or stopped. A token in
    /// constant use is written once per interval; a minute is a good value.
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
        assert!(!period.is_zero(), "the flush interval is zero");
        let last_used = self.clone();
        let task = tokio::spawn(async move {
            while timeout(period, &mut stopped).await.is_err() {
                // A flush in progress completes before the task ends.
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
    /// Returns an error if the store is unavailable.
    pub async fn stop(self) -> Result<(), StoreError> {
        // The task may have ended with its runtime.
        let _ = self.stop.send(());
        let _ = self.task.await;
        self.last_used.flush().await.map(drop)
    }
}

fn log_flush_error(error: &StoreError) {
    #[cfg(feature = "tracing")]
    {
        let source = std::error::Error::source(error).map(tracing::field::display);
        tracing::warn!(target: "tower_service_token", %error, source, "last uses were not written");
    }
    let _ = error;
}
