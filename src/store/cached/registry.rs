use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::CachedStore;
use super::lookups::Lookups;
use crate::digest::TokenDigest;
use crate::registry::{ListRequest, RegistryError, TokenFilter, TokenPage, TokenRegistry, Write};
use crate::store::key::Key;
use crate::store::{StoreError, TokenRecord};
use crate::token::TokenId;

/// Passes all on: whoever manages tokens sees what is stored. Behind every change, whatever came
/// of it, the cache forgets the token, as the store's feed may not tell of a change whose outcome
/// is not known.
#[async_trait]
impl<S: TokenRegistry> TokenRegistry for CachedStore<S> {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        let _invalidate = InvalidateOnDrop::new(&self.lookups, write);
        self.store.insert(write).await
    }

    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        self.store.get(id).await
    }

    async fn find_by_digest(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.store.find_by_digest(digest).await
    }

    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
        self.store.list(request).await
    }

    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        let _invalidate = InvalidateOnDrop::new(&self.lookups, write);
        self.store.update(write).await
    }

    async fn update_many(&self, writes: &[Write]) -> Vec<Result<TokenRecord, RegistryError>> {
        let _invalidate: Vec<_> = writes
            .iter()
            .map(|write| InvalidateOnDrop::new(&self.lookups, write))
            .collect();
        self.store.update_many(writes).await
    }

    async fn count(&self, filter: &TokenFilter, now: SystemTime) -> Result<u64, StoreError> {
        self.store.count(filter, now).await
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        let _invalidate = InvalidateOnDrop::new(&self.lookups, write);
        self.store.delete(write).await
    }

    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        self.store.touch(uses).await
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        self.store.check_writable().await
    }

    /// The longer of what the store behind says of every node, and of what this cache may
    /// remember: its longest life, or less where the store's feed is sure to tell it sooner.
    fn effective_within(&self) -> Duration {
        let life = self.max_entry_age();
        let own = self
            .store
            .feed_delay()
            .map_or(life, |delay| delay.min(life));
        own.max(self.store.effective_within())
    }
}

/// Forgets a token when dropped: after the change was made, failed, panicked or was abandoned.
struct InvalidateOnDrop<'a> {
    lookups: &'a Lookups,
    record: &'a TokenRecord,
}

impl<'a> InvalidateOnDrop<'a> {
    fn new(lookups: &'a Lookups, write: &'a Write) -> Self {
        let record = write.record();
        Self { lookups, record }
    }
}

impl Drop for InvalidateOnDrop<'_> {
    fn drop(&mut self) {
        self.lookups
            .invalidate(self.record.digests().map(Key::from));
    }
}
