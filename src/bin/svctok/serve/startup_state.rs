//! Whether a store is new, so that an administrator may be minted, or one that lost its tokens.

use std::path::Path;
use std::time::SystemTime;

use tower_service_token::registry::{ListRequest, TokenFilter};
use tower_service_token::store::StoreError;

use crate::failure::{Failure, FailureKind};
use crate::marker::Marker;
use crate::store_handle::{RecordedState, StoreHandle};

const RESTORE_HINT: &str = "mount or restore the database; to begin with a new administrator, start once with \
                    --bootstrap";

const OTHER_DATABASE_HINT: &str = "mount or restore the database; to use the present one with its tokens, start \
                    once with --bootstrap";

const GRANT_HINT: &str = "grant the role SELECT and UPDATE on the table service_token_store; to begin \
                          with a new administrator, start once with --bootstrap";

/// What a start finds: a new store, a used store, or one that lost its tokens.
#[derive(Debug)]
pub(super) struct StartupState {
    is_empty: bool,
    /// Whether the store records that it was initialized.
    was_initialized: bool,
    /// Whether the role may read that record.
    can_read_state: bool,
    store_id: Option<String>,
    /// The store that the marker is of, and the marker's name.
    marker: Option<(String, String)>,
}

impl StartupState {
    /// Reads in the reverse of the order in which another process writes: it mints, marks the store as
    /// initialized, and writes the marker.
    pub(super) async fn read(
        store: &dyn StoreHandle,
        marker: Option<&Marker>,
    ) -> Result<Self, Failure> {
        let marker = match marker {
            Some(marker) => {
                let name = marker.path().display().to_string();
                marker.store_id()?.map(|id| (id, name))
            }
            None => None,
        };
        let state = store.state().await.map_err(|error| unavailable(&error))?;
        let (state, can_read_state) = match state {
            RecordedState::Known(state) => (Some(state), true),
            RecordedState::None => (None, true),
            RecordedState::NotPermitted => (None, false),
        };
        let was_initialized = state
            .as_ref()
            .is_some_and(|it| it.initialized_at().is_some());
        Ok(Self {
            is_empty: is_empty(store).await?,
            was_initialized,
            can_read_state,
            store_id: state.map(|it| it.store_id().to_owned()),
            marker,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Returns an error for a store that lost its tokens, or is another one than the last time,
    /// unless that is confirmed by `--bootstrap`.
    pub(super) fn check(&self, is_confirmed: bool) -> Result<(), Failure> {
        if let (Some((expected, marker)), Some(id)) = (&self.marker, &self.store_id)
            && expected != id
        {
            if !is_confirmed {
                let message = format!("database ID is {id}, but {marker} expects {expected}");
                return Err(Failure::rejected(message).with_hint(OTHER_DATABASE_HINT));
            }
            tracing::warn!(
                marker,
                expected,
                database_id = id,
                "using another database, as --bootstrap confirms"
            );
        }
        if !self.is_empty || is_confirmed {
            return Ok(());
        }
        if self.was_initialized || self.marker.is_some() {
            let message = "the store is empty but was initialized before";
            return Err(Failure::rejected(message).with_hint(RESTORE_HINT));
        }
        if !self.can_read_state {
            let message = "the store is empty, and the database role may not read whether it was \
                           initialized before";
            return Err(Failure::rejected(message).with_hint(GRANT_HINT));
        }
        Ok(())
    }

    /// Records that the store has had an administrator. The service works without these records, so a
    /// failure is logged.
    pub(super) async fn record(&self, store: &dyn StoreHandle, marker: Option<&Marker>) {
        let log = |failure: &Failure| {
            let error = failure.message();
            tracing::warn!(error, "cannot mark the store as initialized");
        };
        if self.can_read_state
            && !self.was_initialized
            && let Err(error) = store.mark_initialized(SystemTime::now()).await
        {
            log(&unavailable(&error));
        }
        let known = self.marker.as_ref().map(|(id, _)| id);
        if let (Some(marker), Some(id)) = (marker, &self.store_id)
            && known != Some(id)
            && let Err(failure) = marker.write(id)
        {
            log(&failure);
        }
    }
}

/// Refuses to create a database where there was one, unless that is confirmed by `--bootstrap`.
pub(super) fn check_not_lost(database: &Path, is_confirmed: bool) -> Result<Marker, Failure> {
    let marker = Marker::new(database);
    if !is_confirmed {
        let checked = marker.check_not_lost();
        checked.map_err(|failure| failure.with_hint(RESTORE_HINT))?;
    }
    Ok(marker)
}

pub(super) async fn is_empty(store: &dyn StoreHandle) -> Result<bool, Failure> {
    let request = ListRequest::new(TokenFilter::new(), SystemTime::now()).with_limit(1);
    let page = store.list(&request).await;
    let page = page.map_err(|error| unavailable(&error))?;
    Ok(page.records.is_empty())
}

fn unavailable(error: &StoreError) -> Failure {
    Failure::context(FailureKind::Unreachable, "cannot read the store", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(is_empty: bool, was_initialized: bool, marker: Option<&str>) -> StartupState {
        StartupState {
            is_empty,
            was_initialized,
            can_read_state: true,
            store_id: Some("a".to_owned()),
            marker: marker.map(|id| (id.to_owned(), "tokens.db.initialized".to_owned())),
        }
    }

    #[test]
    fn rejects_an_empty_store_that_was_initialized() {
        for (found, is_good) in [
            (found(true, false, None), true),
            (found(true, true, None), false),
            (found(true, true, Some("a")), false),
            (found(true, false, Some("a")), false),
            (found(true, false, Some("b")), false),
            (found(false, false, None), true),
            (found(false, true, None), true),
            (found(false, true, Some("a")), true),
            (found(false, true, Some("b")), false),
            (found(false, true, Some("")), false),
        ] {
            assert_eq!(found.check(false).is_ok(), is_good, "{found:?}");
            assert!(found.check(true).is_ok(), "{found:?}");
        }
    }

    #[test]
    fn rejects_an_empty_store_whose_state_is_unreadable() {
        for is_empty in [false, true] {
            let found = StartupState {
                can_read_state: false,
                store_id: None,
                ..found(is_empty, false, None)
            };
            assert_eq!(found.check(false).is_ok(), !is_empty, "{found:?}");
            assert!(found.check(true).is_ok(), "{found:?}");
        }
    }
}
