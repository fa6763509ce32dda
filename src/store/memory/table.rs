use std::cmp::Ordering;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::MutexGuard;
use std::time::SystemTime;

use papaya::Guard;

use crate::digest::TokenDigest;
use crate::registry::{RegistryError, Write, name_key};
use crate::store::{TokenRecord, TokenState};
use crate::token::TokenId;

pub(super) type ByDigest = papaya::HashMap<u64, TokenRecord, BuildHasherDefault<DigestIndex>>;

/// The map frees outgrown tables together with other garbage, which insertions do not create. A
/// flush frees them at once but interrupts all readers briefly, so it is done at this interval.
const FLUSH_INTERVAL: usize = 1024;

/// An id in the order of the numbers, so that one map finds tokens by either. Tokens that are inserted
/// without a check may share a number.
#[derive(PartialEq, Eq)]
struct ByNumber(TokenId);

impl Ord for ByNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |id: TokenId| (id.number(), id);
        key(self.0).cmp(&key(other.0))
    }
}

impl PartialOrd for ByNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The tokens by id, and the reserved names.
#[derive(Default)]
pub(super) struct Table {
    records: BTreeMap<ByNumber, TokenRecord>,
    /// Keys of names that no other token may have.
    reserved: HashMap<Box<str>, TokenId>,
}

/// Changes the table and the index that requests read. There is one writer at a time.
pub(super) struct Writer<'s> {
    by_digest: &'s ByDigest,
    table: MutexGuard<'s, Table>,
}

impl<'s> Writer<'s> {
    pub(super) fn new(by_digest: &'s ByDigest, table: MutexGuard<'s, Table>) -> Self {
        Self { by_digest, table }
    }

    pub(super) fn get(&self, id: TokenId) -> Option<&TokenRecord> {
        self.table.records.get(&ByNumber(id))
    }

    pub(super) fn len(&self) -> usize {
        self.table.records.len()
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &TokenRecord> {
        self.table.records.values()
    }

    pub(super) fn has_number(&self, number: i64) -> bool {
        // The first id with a number is the number itself.
        TokenId::from_i64(number).is_some_and(|first| {
            let next = self.table.records.range(ByNumber(first)..).next();
            next.is_some_and(|(ByNumber(id), _)| id.number() == number)
        })
    }

    /// Checks that an insertion exceeds no maximum number of tokens.
    pub(super) fn check_count(&self, write: &Write) -> Result<(), RegistryError> {
        let is_full = |max: Option<u64>, is_counted: &dyn Fn(&TokenRecord) -> bool| {
            let unrevoked = self
                .records()
                .filter(|it| it.state() != TokenState::Revoked);
            max.is_some_and(|max| {
                let max = usize::try_from(max).unwrap_or(usize::MAX);
                unrevoked.filter(|it| is_counted(it)).take(max).count() == max
            })
        };
        let owner = write.record().owner();
        if is_full(write.max_tokens(), &|_| true)
            || is_full(write.max_tokens_of_owner(), &|it| it.owner() == owner)
        {
            return Err(RegistryError::TooManyTokens);
        }
        Ok(())
    }

    /// Checks that no other token holds the name that the write reserves.
    pub(super) fn check_name(&self, write: &Write) -> Result<(), RegistryError> {
        let holder = write
            .reserved_name()
            .and_then(|name| self.table.reserved.get(&*name));
        match holder {
            Some(holder) if *holder != write.record().id() => Err(RegistryError::NameTaken),
            _ => Ok(()),
        }
    }

    /// Reserves the name of the write, if it is unique.
    pub(super) fn reserve_name(&mut self, write: &Write) {
        if let Some(name) = write.reserved_name() {
            let id = write.record().id();
            self.table.reserved.insert(name.into(), id);
        }
    }

    pub(super) fn insert(&mut self, record: &TokenRecord) -> Result<(), MemoryStoreError> {
        let table = &mut *self.table;
        let Entry::Vacant(vacant) = table.records.entry(ByNumber(record.id())) else {
            return Err(MemoryStoreError::DuplicateId);
        };
        index(self.by_digest, record)?;
        vacant.insert(record.clone());
        if table.records.len().is_multiple_of(FLUSH_INTERVAL) {
            self.by_digest.guard().flush();
        }
        Ok(())
    }

    /// Replaces the record with the same id, and returns the old one.
    pub(super) fn replace(
        &mut self,
        record: &TokenRecord,
    ) -> Result<TokenRecord, MemoryStoreError> {
        let known = self.table.records.get_mut(&ByNumber(record.id()));
        let known = known.ok_or(MemoryStoreError::UnknownId)?;
        index(self.by_digest, record)?;
        let old = std::mem::replace(known, record.clone());
        let by_digest = self.by_digest.pin();
        for index in old.digests().map(TokenDigest::index) {
            if !record.digests().any(|digest| digest.index() == index) {
                by_digest.remove(&index);
            }
        }
        if record.state() == TokenState::Revoked || name_key(record) != name_key(&old) {
            self.release_name(&old);
        }
        Ok(old)
    }

    pub(super) fn remove(&mut self, id: TokenId) -> Option<TokenRecord> {
        let record = self.table.records.remove(&ByNumber(id))?;
        let by_digest = self.by_digest.pin();
        for index in record.digests().map(TokenDigest::index) {
            by_digest.remove(&index);
        }
        self.release_name(&record);
        Some(record)
    }

    /// Moves the time of the last use forward.
    pub(super) fn touch(&mut self, id: TokenId, at: SystemTime) {
        if let Some(known) = self.table.records.get_mut(&ByNumber(id))
            && known.last_used_at() < Some(at)
        {
            *known = known.clone().with_last_used_at(at);
            let by_digest = self.by_digest.pin();
            for index in known.digests().map(TokenDigest::index) {
                by_digest.insert(index, known.clone());
            }
        }
    }

    fn release_name(&mut self, record: &TokenRecord) {
        let key = name_key(record);
        if self.table.reserved.get(&*key) == Some(&record.id()) {
            self.table.reserved.remove(&*key);
        }
    }
}

/// Makes a record available to requests, unless another token has one of its digests.
fn index(by_digest: &ByDigest, record: &TokenRecord) -> Result<(), MemoryStoreError> {
    let by_digest = by_digest.pin();
    let is_taken = |digest: &TokenDigest| {
        let holder = by_digest.get(&digest.index());
        holder.is_some_and(|holder| holder.id() != record.id())
    };
    if record.digests().any(is_taken) {
        return Err(MemoryStoreError::DuplicateDigest);
    }
    for index in record.digests().map(TokenDigest::index) {
        by_digest.insert(index, record.clone());
    }
    Ok(())
}

/// Uses eight bytes of a SHA-256 digest as the hash, because they are uniformly distributed.
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
