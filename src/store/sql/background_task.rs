use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// A task that is begun at most once and ends with what holds this.
pub(super) struct BackgroundTask {
    runtime: Handle,
    task: Mutex<TaskState>,
}

enum TaskState {
    NotStarted,
    Running(JoinHandle<()>),
    Stopped,
}

impl BackgroundTask {
    /// Within a runtime, which the task will run on.
    pub(super) fn new() -> Self {
        Self {
            runtime: Handle::current(),
            task: Mutex::new(TaskState::NotStarted),
        }
    }

    pub(super) fn start<T: Future<Output = ()> + Send + 'static>(&self, work: impl FnOnce() -> T) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*task, TaskState::NotStarted) {
            *task = TaskState::Running(self.runtime.spawn(work()));
        }
    }

    /// Ends the task, and waits until all that it held is dropped. None begins afterwards.
    pub(super) async fn stop(&self) {
        let task = self.replace(TaskState::Stopped);
        if let TaskState::Running(task) = task {
            task.abort();
            // It was aborted, or panicked before.
            let _ = task.await;
        }
    }

    fn replace(&self, by: TaskState) -> TaskState {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *task, by)
    }
}

impl Drop for BackgroundTask {
    fn drop(&mut self) {
        if let TaskState::Running(task) = self.replace(TaskState::Stopped) {
            task.abort();
        }
    }
}
