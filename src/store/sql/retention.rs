//! Deletes old events of the audit trail.

use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::columns::millis;
use super::operation::Operation;
use super::tables::Tables;
use crate::store::StoreError;

const INTERVAL: Duration = Duration::from_secs(60);

/// Events that are deleted by one transaction.
const BATCH_SIZE: u32 = 1000;

/// Between two batches, for the changes that wait.
const BATCH_DELAY: Duration = Duration::from_millis(100);

impl Tables {
    /// Deletes the events before a time, in batches, and returns how many there were.
    pub(super) async fn prune_audit_trail(&self, before: SystemTime) -> Result<u64, StoreError> {
        let mut deleted = 0;
        loop {
            let operation = Operation::PruneAuditLog {
                before: millis(before),
                limit: BATCH_SIZE.into(),
            };
            let rows = self.change(operation).await?.rows;
            deleted += rows;
            if rows < BATCH_SIZE.into() {
                return Ok(deleted);
            }
            sleep(BATCH_DELAY).await;
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
