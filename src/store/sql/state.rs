use std::time::SystemTime;

use super::columns::time;
use super::session::NamedColumns;
use crate::store::StoreError;

pub(super) const READ: &str =
    "SELECT store_id, initialized_at FROM service_token_store WHERE id = 1";

pub(super) const INITIALIZE: &str = "UPDATE service_token_store SET initialized_at = $1 \
     WHERE id = 1 AND initialized_at IS NULL";

pub(super) const CHECK_WRITABLE: &str = "UPDATE service_token_store \
     SET write_checks = write_checks + 1 WHERE id = 1 RETURNING id";

/// What a SQL store records about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreState {
    store_id: Box<str>,
    initialized_at: Option<SystemTime>,
}

impl StoreState {
    /// Returns the random ID that the database got when its tables were created. A backup has the
    /// same ID; no other database does.
    pub fn store_id(&self) -> &str {
        &self.store_id
    }

    /// Returns when [`mark_initialized`](super::SqlStore::mark_initialized) was first called, or
    /// `None`.
    ///
    /// For a database that was migrated from schema version 1 with tokens in it, this is when the
    /// oldest of them was created.
    pub fn initialized_at(&self) -> Option<SystemTime> {
        self.initialized_at
    }

    pub(super) fn read(row: &impl NamedColumns) -> Result<Option<Self>, sqlx::Error> {
        let Some(store_id) = row.text("store_id")? else {
            return Ok(None);
        };
        Ok(Some(Self {
            store_id: store_id.into(),
            initialized_at: row.int("initialized_at")?.map(time),
        }))
    }
}

pub(super) fn missing_row() -> StoreError {
    StoreError::corrupt("the table service_token_store has no row")
}
