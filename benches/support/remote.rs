//! A store that must be awaited, backed by a `MemoryStore`.

use std::sync::Arc;

use async_trait::async_trait;
use tower_service_token::store::{ChangeListener, Credential, StoreError, TokenRecord};
use tower_service_token::{MemoryStore, TokenStore};

pub(crate) struct Remote(pub(crate) MemoryStore);

#[async_trait]
impl TokenStore for Remote {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.0.find(credential).await
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.0.subscribe(listener);
    }
}
