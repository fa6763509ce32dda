//! Deletes old events of the audit trail.

use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::columns::millis;
use super::tables::Tables;
use super::task::Task;
use crate::store::StoreError;

const INTERVAL: Duration = Duration::from_secs(60);

/// Events that are deleted by one transaction.
const BATCH: u32 = 1000;

/// Between two batches, for the changes that wait.
const PAUSE: Duration = Duration::from_millis(100);

impl Tables {
    /// Deletes the events before a time, in batches, and returns how many there were.
    pub(super) async fn prune_audit_trail(&self, before: SystemTime) -> Result<u64, StoreError> {
        let mut deleted = 0;
        loop {
            let task = Task::PruneTrail {
                before: millis(before),
                limit: BATCH.into(),
            };
            let rows = self.change(task).await?.rows;
            deleted += rows;
            if rows < BATCH.into() {
                return Ok(deleted);
            }
            sleep(PAUSE).await;
        }
    }
}

/// Deletes what is older than the retention, until the store is closed.
pub(super) async fn prune_at_interval(tables: Tables, retention: Duration) {
    while !tables.pool.is_closed() {
        let now = SystemTime::now();
        let before = now.checked_sub(retention);
        if let Some(before) = before
            && let Err(error) = tables.prune_audit_trail(before).await
        {
            log(&error);
        }
        sleep(INTERVAL).await;
    }
}

#[cfg(not(feature = "tracing"))]
fn log(_: &StoreError) {}

#[cfg(feature = "tracing")]
fn log(error: &StoreError) {
    let source = std::error::Error::source(error).map(tracing::field::display);
    tracing::warn!(
        target: "tower_service_token",
        %error,
        source,
        "cannot delete old audit events; trying again in {INTERVAL:?}",
    );
}
