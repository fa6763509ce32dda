use std::fmt::Display;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::store::FeedState;

const NOT_USED: u8 = 0;
const CONNECTED: u8 = 1;
const LOST: u8 = 2;

/// Whether a store receives the changes of other processes. Logs once when that changes.
#[derive(Debug, Default)]
pub(super) struct FeedStatus(AtomicU8);

impl FeedStatus {
    pub(super) fn state(&self) -> FeedState {
        match self.0.load(Ordering::Relaxed) {
            NOT_USED => FeedState::NotUsed,
            CONNECTED => FeedState::Connected,
            _ => FeedState::Lost,
        }
    }

    pub(super) fn set_connected(&self) {
        if self.0.swap(CONNECTED, Ordering::Relaxed) == LOST {
            log_connected();
        }
    }

    pub(super) fn set_lost(&self, error: &dyn Display) {
        if self.0.swap(LOST, Ordering::Relaxed) != LOST {
            log_lost(error);
        }
    }

    pub(super) fn set_not_used(&self) {
        self.0.store(NOT_USED, Ordering::Relaxed);
    }
}

#[cfg(not(feature = "tracing"))]
fn log_connected() {}

#[cfg(feature = "tracing")]
fn log_connected() {
    tracing::info!(
        target: "tower_service_token",
        "the token store receives changes of other processes again",
    );
}

#[cfg(not(feature = "tracing"))]
fn log_lost(_: &dyn Display) {}

#[cfg(feature = "tracing")]
fn log_lost(error: &dyn Display) {
    tracing::error!(
        target: "tower_service_token",
        error = %error,
        "the token store does not receive changes of other processes; caches serve entries until \
         they expire",
    );
}
