use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// A task that starts at most once and ends when this is dropped.
pub(super) struct BackgroundTask {
    runtime: Handle,
    /// Empty before the task starts, `None` after it was stopped.
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl BackgroundTask {
    /// Uses the current runtime for the task.
    pub(super) fn new() -> Self {
        Self {
            runtime: Handle::current(),
            tasks: Mutex::new(Some(JoinSet::new())),
        }
    }

    pub(super) fn start<T: Future<Output = ()> + Send + 'static>(&self, work: impl FnOnce() -> T) {
        if let Some(tasks) = &mut *self.tasks()
            && tasks.is_empty()
        {
            tasks.spawn_on(work(), &self.runtime);
        }
    }

    /// Ends the task and waits until everything it owns is dropped. It cannot start again.
    pub(super) async fn stop(&self) {
        let tasks = self.tasks().take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Option<JoinSet<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
