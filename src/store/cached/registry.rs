use std::slice;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::CachedStore;
use super::lookup::CachedLookups;
use crate::digest::TokenDigest;
use crate::registry::{ListRequest, RegistryError, TokenFilter, TokenPage, TokenRegistry, Write};
use crate::single_flight::CacheKey;
use crate::store::{StoreError, TokenRecord};
use crate::token::TokenId;

/// Forwards to the inner store, past the cache. Each write evicts the token afterwards, whatever its
/// result: the store's feed may not report a change whose outcome is unknown.
#[async_trait]
impl<S: TokenRegistry> TokenRegistry for CachedStore<S> {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        let _invalidate = self.invalidate_on_drop(slice::from_ref(write));
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
        let _invalidate = self.invalidate_on_drop(slice::from_ref(write));
        self.store.update(write).await
    }

    async fn update_many(&self, writes: &[Write]) -> Vec<Result<TokenRecord, RegistryError>> {
        let _invalidate = self.invalidate_on_drop(writes);
        self.store.update_many(writes).await
    }

    async fn count(&self, filter: &TokenFilter, now: SystemTime) -> Result<u64, StoreError> {
        self.store.count(filter, now).await
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        let _invalidate = self.invalidate_on_drop(slice::from_ref(write));
        self.store.delete(write).await
    }

    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        self.store.touch(uses).await
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        self.store.check_writable().await
    }

    /// The longer of what the inner store guarantees and of how stale this cache may be: its longer
    /// TTL, or the delay of the store's feed if that is shorter.
    fn effective_within(&self) -> Duration {
        let ttl = if self.is_disabled() {
            Duration::ZERO
        } else {
            self.lookups
                .policy
                .ttl
                .max(self.lookups.policy.negative_ttl)
        };
        let own = self.store.feed_delay().map_or(ttl, |delay| delay.min(ttl));
        own.max(self.store.effective_within())
    }
}

impl<S> CachedStore<S> {
    fn invalidate_on_drop<'a>(&'a self, writes: &'a [Write]) -> InvalidateOnDrop<'a> {
        let lookups = &self.lookups;
        InvalidateOnDrop { lookups, writes }
    }
}

/// Evicts tokens when dropped: after the change succeeded, failed, panicked or was canceled.
struct InvalidateOnDrop<'a> {
    lookups: &'a CachedLookups,
    writes: &'a [Write],
}

impl Drop for InvalidateOnDrop<'_> {
    fn drop(&mut self) {
        let digests = self.writes.iter().flat_map(|it| it.record().digests());
        self.lookups.invalidate(digests.map(CacheKey::from));
    }
}
