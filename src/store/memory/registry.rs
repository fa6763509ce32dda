use std::time::SystemTime;

use async_trait::async_trait;

use super::MemoryStore;
use super::table::MemoryStoreError;
use crate::digest::TokenDigest;
use crate::registry::{ListRequest, RegistryError, TokenPage, TokenRegistry, Write};
use crate::store::{StoreError, TokenRecord};
use crate::token::TokenId;

/// A listing scans every token. Writers wait meanwhile, requests do not.
#[async_trait]
impl TokenRegistry for MemoryStore {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        self.commit(|tokens| {
            write.check_insert(|id| tokens.get(id), |number| tokens.has_number(number))?;
            tokens.check_name(write)?;
            tokens.check_count(write)?;
            tokens.insert(write.record())?;
            tokens.reserve_name(write);
            Ok(((), None, Some(write.record().clone())))
        })
    }

    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        Ok(Self::get(self, id))
    }

    async fn find_by_digest(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        let by_digest = self.0.by_digest.pin();
        let found = by_digest.get(&digest.index());
        let found = found.filter(|record| record.digests().any(|known| known == digest));
        Ok(found.cloned())
    }

    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
        Ok(request.select(self.lock().records()))
    }

    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        self.commit(|tokens| {
            let known = write.check_change(|id| tokens.get(id), tokens.records())?;
            tokens.check_name(write)?;
            let record = write.record().clone();
            let record = record
                .with_revision(known.revision() + 1)
                .with_last_used_at(known.last_used_at());
            let known = tokens.replace(&record)?;
            tokens.reserve_name(write);
            Ok((record.clone(), Some(known), Some(record)))
        })
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        self.commit(|tokens| {
            write.check_change(|id| tokens.get(id), tokens.records())?;
            Ok(((), tokens.remove(write.record().id()), None))
        })
    }

    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        let mut tokens = self.lock();
        for (id, at) in uses {
            tokens.touch(*id, *at);
        }
        Ok(())
    }
}

impl From<MemoryStoreError> for RegistryError {
    fn from(error: MemoryStoreError) -> Self {
        match error {
            MemoryStoreError::DuplicateId => Self::DuplicateId,
            MemoryStoreError::DuplicateDigest => Self::DuplicateDigest,
            MemoryStoreError::UnknownId => Self::UnknownId,
        }
    }
}
