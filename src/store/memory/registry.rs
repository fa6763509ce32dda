use std::time::SystemTime;

use async_trait::async_trait;

use super::MemoryStore;
use super::table::{MemoryStoreError, Table};
use crate::digest::TokenDigest;
use crate::registry::{ListRequest, RegistryError, TokenPage, TokenRegistry, Write};
use crate::store::{StoreError, TokenRecord};
use crate::token::TokenId;

/// Listing scans every token. Writers wait meanwhile, requests do not.
#[async_trait]
impl TokenRegistry for MemoryStore {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        let record = write.record();
        {
            let mut table = self.lock();
            write.authorize(actor(&table, write), None)?;
            if table.get(record.id()).is_some() {
                return Err(RegistryError::DuplicateId);
            }
            if let Some(name) = write.reserved_name()
                && table.is_reserved(name, record.id())
            {
                return Err(RegistryError::NameTaken);
            }
            if write
                .max_tokens()
                .is_some_and(|max| table.has_at_least(max))
            {
                return Err(RegistryError::TooManyTokens);
            }
            table.insert(&self.0.by_digest, record.clone())?;
            if let Some(name) = write.reserved_name() {
                table.reserve(name, record.id());
            }
        }
        self.publish(None, Some(record));
        Ok(())
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
        let id = write.record().id();
        let (known, record) = {
            let mut table = self.lock();
            let known = table.get(id).cloned().ok_or(RegistryError::UnknownId)?;
            if known.revision() != write.record().revision() {
                return Err(RegistryError::RevisionMismatch);
            }
            check_write(&table, write, &known)?;
            if let Some(name) = write.reserved_name()
                && table.is_reserved(name, id)
            {
                return Err(RegistryError::NameTaken);
            }
            let record = write.record().clone();
            let record = record
                .with_revision(known.revision() + 1)
                .with_last_used_at(known.last_used_at());
            table.replace(&self.0.by_digest, &record)?;
            if let Some(name) = write.reserved_name() {
                table.reserve(name, id);
            }
            (known, record)
        };
        self.publish(Some(&known), Some(&record));
        Ok(record)
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        let id = write.record().id();
        let known = {
            let mut table = self.lock();
            let known = table.get(id).cloned().ok_or(RegistryError::UnknownId)?;
            if known.revision() != write.record().revision() {
                return Err(RegistryError::RevisionMismatch);
            }
            check_write(&table, write, &known)?;
            table.remove(&self.0.by_digest, id);
            known
        };
        self.publish(Some(&known), None);
        Ok(())
    }

    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        let mut table = self.lock();
        for (id, at) in uses {
            table.touch(&self.0.by_digest, *id, *at);
        }
        Ok(())
    }
}

fn actor<'t>(table: &'t Table, write: &Write) -> Option<&'t TokenRecord> {
    table.get(write.actor_id()?)
}

fn check_write(table: &Table, write: &Write, known: &TokenRecord) -> Result<(), RegistryError> {
    write.authorize(actor(table, write), Some(known))?;
    write.check_last_admin(table.records())
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
