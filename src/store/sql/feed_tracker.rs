use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::FeedStatus;

/// Whether a store receives the changes of other processes. Logs each loss once, and the recovery.
#[derive(Debug)]
pub(super) struct FeedTracker(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    state: FeedStatus,
    is_loss_logged: bool,
}

impl FeedTracker {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Inner {
            state: FeedStatus::NotUsed,
            is_loss_logged: false,
        }))
    }

    pub(super) fn state(&self) -> FeedStatus {
        self.lock().state
    }

    /// Marks the feed as lost until its first connection, without a log line.
    pub(super) fn set_connecting(&self) {
        self.lock().state = FeedStatus::Lost;
    }

    pub(super) fn set_connected(&self) {
        let mut inner = self.lock();
        inner.state = FeedStatus::Connected;
        if std::mem::take(&mut inner.is_loss_logged) {
            log_restored();
        }
    }

    pub(super) fn set_lost(&self, cause: &dyn Display) {
        let mut inner = self.lock();
        inner.state = FeedStatus::Lost;
        if !std::mem::replace(&mut inner.is_loss_logged, true) {
            log_lost(cause);
        }
    }

    pub(super) fn set_not_used(&self) {
        self.lock().state = FeedStatus::NotUsed;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_restored() {
    #[cfg(feature = "tracing")]
    tracing::info!(target: "tower_service_token", "change feed restored");
}

fn log_lost(cause: &dyn Display) {
    #[cfg(not(feature = "tracing"))]
    let _ = cause;
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: "tower_service_token",
        %cause,
        "change feed lost; caches serve entries until they expire",
    );
}
