use std::time::SystemTime;

use async_trait::async_trait;
use tower_service_token::store::{
    PostgresStore, SqliteStore, StoreError, StoreState, TokenRegistry,
};

use crate::token_file::TokenFile;

/// A store that owns its tokens, and what a process does with one beyond its tokens.
#[async_trait]
pub(crate) trait StoreHandle: TokenRegistry {
    /// Returns what the store records about itself, if it does.
    async fn state(&self) -> Result<Option<StoreState>, StoreError> {
        Ok(None)
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
            async fn state(&self) -> Result<Option<StoreState>, StoreError> {
                $store::state(self).await.map(Some)
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
