use std::time::SystemTime;

use async_trait::async_trait;
use tower_service_token::registry::TokenRegistry;
use tower_service_token::store::StoreError;
use tower_service_token::store::file::{TokenFile, TokenFileError};
use tower_service_token::store::sql::{PostgresStore, SqliteStore, StoreState};

use crate::failure::{Failure, FailureKind};

/// What a store records about itself.
pub(crate) enum RecordedState {
    /// The store has no such record.
    None,
    /// The database role may not read the record.
    NotPermitted,
    Known(StoreState),
}

/// A store that owns its tokens, with the operations on the store itself.
#[async_trait]
pub(crate) trait StoreHandle: TokenRegistry {
    /// Returns what the store records about itself.
    async fn state(&self) -> Result<RecordedState, StoreError> {
        Ok(RecordedState::None)
    }

    /// Records that the store has had an administrator.
    async fn mark_initialized(&self, _at: SystemTime) -> Result<(), StoreError> {
        Ok(())
    }

    /// Closes the store, so that a SQLite database is one complete file.
    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl StoreHandle for TokenFile {}

#[cfg(test)]
impl StoreHandle for tower_service_token::MemoryStore {}

/// Forwards to the methods of the same names.
macro_rules! forward_to_store {
    ($store:ident) => {
        #[async_trait]
        impl StoreHandle for $store {
            async fn state(&self) -> Result<RecordedState, StoreError> {
                let state = $store::state(self).await?;
                Ok(state.map_or(RecordedState::NotPermitted, RecordedState::Known))
            }

            async fn mark_initialized(&self, at: SystemTime) -> Result<(), StoreError> {
                $store::mark_initialized(self, at).await
            }

            async fn close(&self) -> Result<(), StoreError> {
                $store::close(self).await
            }
        }
    };
}

forward_to_store!(SqliteStore);
forward_to_store!(PostgresStore);

/// Returns the failure of a token file, if it caused an error of a store.
pub(crate) fn token_file_failure(error: &StoreError) -> Option<Failure> {
    let error = TokenFileError::cause_of(error)?;
    let kind = match error {
        TokenFileError::Unreadable(_) | TokenFileError::Busy(_) => FailureKind::Unreachable,
        _ => FailureKind::Rejected,
    };
    let failure = Failure::from_error(kind, error);
    Some(match hint(error) {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    })
}

fn hint(error: &TokenFileError) -> Option<&'static str> {
    match error {
        TokenFileError::Unwritable { .. } => Some(
            "the file is replaced by a new one, so its directory must be writable; if it is mounted \
             read-only, change its source",
        ),
        TokenFileError::Json(_) => Some(
            "keep the tokens in a .toml file, or edit this one: `svctok hash` prints the digest of \
             a token",
        ),
        TokenFileError::UnsupportedLayout(_) => Some("use the same line ending on every line"),
        TokenFileError::Busy(_) => Some("nothing was changed: retry"),
        TokenFileError::GracePeriod => Some(
            "rotate without --grace, which invalidates the previous secret at once; or create a \
             second token and delete this one when it is no longer used",
        ),
        _ => None,
    }
}
