use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// A task that is begun at most once and ends with what holds this.
pub(super) struct Background {
    runtime: Handle,
    task: Mutex<Option<AbortHandle>>,
}

impl Background {
    /// Within a runtime, which the task will run on.
    pub(super) fn new() -> Self {
        Self {
            runtime: Handle::current(),
            task: Mutex::new(None),
        }
    }

    pub(super) fn begin<T: Future<Output = ()> + Send + 'static>(&self, work: impl FnOnce() -> T) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.is_none() {
            *task = Some(self.runtime.spawn(work()).abort_handle());
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task {
            task.abort();
        }
    }
}
