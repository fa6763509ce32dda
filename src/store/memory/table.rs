use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::SystemTime;

use papaya::Guard;

use crate::digest::TokenDigest;
use crate::store::{TokenRecord, TokenState};
use crate::token::TokenId;

pub(super) type ByDigest = papaya::HashMap<u64, TokenRecord, BuildHasherDefault<DigestIndex>>;

/// The map frees its outgrown tables in batches of other garbage, of which inserting makes none. A
/// flush frees them at once, and interrupts all readers for a moment: so, now and then.
const FLUSH_INTERVAL: usize = 1024;

/// What writers change, one at a time. Each change takes the index that requests read along.
#[derive(Default)]
pub(super) struct Table {
    records: BTreeMap<TokenId, TokenRecord>,
    /// Names that no other token may take.
    reserved: HashMap<Box<str>, TokenId>,
}

impl Table {
    pub(super) fn get(&self, id: TokenId) -> Option<&TokenRecord> {
        self.records.get(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &TokenRecord> {
        self.records.values()
    }

    /// Returns whether there are at least this many tokens which are not revoked.
    pub(super) fn has_at_least(&self, count: u64) -> bool {
        let mut live = self
            .records()
            .filter(|record| record.state() != TokenState::Revoked);
        match usize::try_from(count) {
            Ok(0) => true,
            Ok(count) => live.nth(count - 1).is_some(),
            Err(_) => false,
        }
    }

    /// Returns whether a token other than this one holds the name.
    pub(super) fn is_reserved(&self, name: &str, id: TokenId) -> bool {
        self.reserved.get(name).is_some_and(|holder| *holder != id)
    }

    /// Keeps the name for the token.
    pub(super) fn reserve(&mut self, name: &str, id: TokenId) {
        self.reserved.insert(name.into(), id);
    }

    pub(super) fn insert(
        &mut self,
        by_digest: &ByDigest,
        record: TokenRecord,
    ) -> Result<(), MemoryStoreError> {
        let guard = by_digest.guard();
        let Entry::Vacant(vacant) = self.records.entry(record.id()) else {
            return Err(MemoryStoreError::DuplicateId);
        };
        let is_taken = |digest: &TokenDigest| by_digest.contains_key(&digest.index(), &guard);
        if record.digests().any(is_taken) {
            return Err(MemoryStoreError::DuplicateDigest);
        }
        for index in record.digests().map(TokenDigest::index) {
            by_digest.insert(index, record.clone(), &guard);
        }
        vacant.insert(record);
        if self.records.len().is_multiple_of(FLUSH_INTERVAL) {
            guard.flush();
        }
        Ok(())
    }

    /// Puts the record where the one with its id is, in all maps.
    pub(super) fn replace(
        &mut self,
        by_digest: &ByDigest,
        record: &TokenRecord,
    ) -> Result<(), MemoryStoreError> {
        let id = record.id();
        let known = self
            .records
            .get_mut(&id)
            .ok_or(MemoryStoreError::UnknownId)?;
        let guard = by_digest.guard();
        let is_taken = |digest: &TokenDigest| {
            let holder = by_digest.get(&digest.index(), &guard);
            holder.is_some_and(|holder| holder.id() != id)
        };
        if record.digests().any(is_taken) {
            return Err(MemoryStoreError::DuplicateDigest);
        }
        let old = std::mem::replace(known, record.clone());
        for index in record.digests().map(TokenDigest::index) {
            by_digest.insert(index, record.clone(), &guard);
        }
        for index in old.digests().map(TokenDigest::index) {
            if !record.digests().any(|digest| digest.index() == index) {
                by_digest.remove(&index, &guard);
            }
        }
        if record.state() == TokenState::Revoked || record.name() != old.name() {
            self.release(&old);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, by_digest: &ByDigest, id: TokenId) -> Option<TokenRecord> {
        let record = self.records.remove(&id)?;
        let guard = by_digest.guard();
        for index in record.digests().map(TokenDigest::index) {
            by_digest.remove(&index, &guard);
        }
        self.release(&record);
        Some(record)
    }

    /// Notes a use. Moves forward only.
    pub(super) fn touch(&mut self, by_digest: &ByDigest, id: TokenId, at: SystemTime) {
        let Some(known) = self.records.get_mut(&id) else {
            return;
        };
        if known.last_used_at() < Some(at) {
            let touched = known.clone().with_last_used_at(at);
            *known = touched.clone();
            let guard = by_digest.guard();
            for index in touched.digests().map(TokenDigest::index) {
                by_digest.insert(index, touched.clone(), &guard);
            }
        }
    }

    fn release(&mut self, record: &TokenRecord) {
        if self.reserved.get(record.name()) == Some(&record.id()) {
            self.reserved.remove(record.name());
        }
    }
}

/// Eight bytes of a SHA-256 digest are as uniform as any hash of them would be.
#[derive(Default)]
pub(super) struct DigestIndex(u64);

impl Hasher for DigestIndex {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, index: u64) {
        self.0 = index;
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }
}

/// The error of a change to a [`MemoryStore`](super::MemoryStore).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryStoreError {
    /// A token with this id exists.
    #[error("a token with this id exists")]
    DuplicateId,
    /// A token with this digest exists.
    #[error("a token with this digest exists")]
    DuplicateDigest,
    /// There is no token with this id.
    #[error("no token has this id")]
    UnknownId,
}
