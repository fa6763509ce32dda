use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::{ChangeFeed, ChangeListener, FeedStatus, TokenChange};

/// The change feed of a store, and whether it has the changes of other processes. Logs each loss
/// once, and the recovery.
pub(super) struct FeedTracker {
    feed: ChangeFeed,
    inner: Mutex<Inner>,
}

struct Inner {
    status: FeedStatus,
    is_loss_logged: bool,
}

impl FeedTracker {
    pub(super) fn new() -> Self {
        Self {
            feed: ChangeFeed::default(),
            inner: Mutex::new(Inner {
                status: FeedStatus::NotUsed,
                is_loss_logged: false,
            }),
        }
    }

    pub(super) fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.feed.subscribe(listener);
    }

    pub(super) fn publish(&self, change: &TokenChange) {
        self.feed.publish(change);
    }

    pub(super) fn status(&self) -> FeedStatus {
        self.lock().status
    }

    /// Sets the status without a log line.
    pub(super) fn set_status(&self, status: FeedStatus) {
        self.lock().status = status;
    }

    /// Marks the feed as connected. Anything may have changed before, so the caches are cleared
    /// first: a reader of `Connected` gets no older record.
    pub(super) fn set_connected(&self) {
        self.publish(&TokenChange::Everything);
        let was_logged = {
            let mut inner = self.lock();
            inner.status = FeedStatus::Connected;
            std::mem::take(&mut inner.is_loss_logged)
        };
        if was_logged {
            #[cfg(feature = "tracing")]
            tracing::info!(target: "tower_service_token", "change feed restored");
        }
    }

    pub(super) fn set_lost(&self, cause: &dyn Display) {
        let mut inner = self.lock();
        inner.status = FeedStatus::Lost;
        if !std::mem::replace(&mut inner.is_loss_logged, true) {
            log_lost(cause);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
