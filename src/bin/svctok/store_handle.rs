use std::time::SystemTime;

use async_trait::async_trait;
use tower_service_token::registry::TokenRegistry;
use tower_service_token::store::StoreError;
use tower_service_token::store::sql::{PostgresStore, SqliteStore, StoreState};

use crate::token_file::TokenFile;

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
