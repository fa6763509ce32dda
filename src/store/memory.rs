use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use papaya::{Guard, HashMap};

use super::{Cached, Credential, StoreError, TokenRecord, TokenState, TokenStore};
use crate::token::TokenId;

/// The map frees its outgrown tables in batches of other garbage, of which inserting makes none. A
/// flush frees them at once, and interrupts all readers for a moment: so, now and then.
const FLUSH_EACH: usize = 1024;

/// Tokens in this process's memory: for tests, for tokens known at start, and behind caches.
///
/// 1. Finding a token takes no lock and no allocation and costs the same with one token as with a
///    million. Writers take turns; no reader waits for them.
/// 2. A change is seen by every request that begins after the method returned.
/// 3. Clones share the same tokens. Nothing survives the process.
///
/// ```
/// use tower_service_token::store::{MemoryStore, TokenRecord};
/// use tower_service_token::token::TokenFormat;
///
/// let store = MemoryStore::new();
/// let token = TokenFormat::default().mint()?;
/// store.insert(TokenRecord::from(&token).with_name("ci"))?;
/// store.revoke(token.id())?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Tokens>);

#[derive(Default)]
struct Tokens {
    /// Read by requests, written only under the lock of `by_id`.
    by_digest: HashMap<u64, TokenRecord, BuildHasherDefault<DigestIndex>>,
    by_id: Mutex<BTreeMap<TokenId, TokenRecord>>,
}

impl MemoryStore {
    /// A store without tokens.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a token.
    ///
    /// # Errors
    ///
    /// The id or the digest is taken; nothing was changed.
    pub fn insert(&self, record: TokenRecord) -> Result<(), MemoryStoreError> {
        let mut by_id = self.lock();
        let guard = self.0.by_digest.guard();
        let index = record.digest().index();
        let Entry::Vacant(place) = by_id.entry(record.id()) else {
            return Err(MemoryStoreError::DuplicateId);
        };
        if self.0.by_digest.contains_key(&index, &guard) {
            return Err(MemoryStoreError::DuplicateDigest);
        }
        place.insert(record.clone());
        self.0.by_digest.insert(index, record, &guard);
        if by_id.len().is_multiple_of(FLUSH_EACH) {
            guard.flush();
        }
        Ok(())
    }

    /// Replaces the record with the same id. With another digest this rotates the secret: the new
    /// one works before the old one stops, and the old one is refused when this returns.
    ///
    /// # Errors
    ///
    /// No token has this id, or another token has this digest; nothing was changed.
    pub fn replace(&self, record: TokenRecord) -> Result<(), MemoryStoreError> {
        let mut by_id = self.lock();
        let known = by_id
            .get_mut(&record.id())
            .ok_or(MemoryStoreError::UnknownId)?;
        self.swap(known, record)
    }

    /// Refuses the token from now on, and for good: its record stays, so that its holder is told.
    ///
    /// # Errors
    ///
    /// No token has this id.
    pub fn revoke(&self, id: TokenId) -> Result<(), MemoryStoreError> {
        let mut by_id = self.lock();
        let known = by_id.get_mut(&id).ok_or(MemoryStoreError::UnknownId)?;
        let revoked = known.clone().with_state(TokenState::Revoked);
        self.swap(known, revoked)
    }

    /// Forgets the token and returns what was known about it.
    pub fn remove(&self, id: TokenId) -> Option<TokenRecord> {
        let mut by_id = self.lock();
        let record = by_id.remove(&id)?;
        self.0.by_digest.pin().remove(&record.digest().index());
        Some(record)
    }

    /// What is known about the token with this id.
    pub fn get(&self, id: TokenId) -> Option<TokenRecord> {
        self.lock().get(&id).cloned()
    }

    /// How many tokens there are, revoked ones included.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `record` where `known` is, in both maps.
    fn swap(&self, known: &mut TokenRecord, record: TokenRecord) -> Result<(), MemoryStoreError> {
        let guard = self.0.by_digest.guard();
        let (old, new) = (known.digest().index(), record.digest().index());
        if old != new && self.0.by_digest.contains_key(&new, &guard) {
            return Err(MemoryStoreError::DuplicateDigest);
        }
        *known = record.clone();
        self.0.by_digest.insert(new, record, &guard);
        if old != new {
            self.0.by_digest.remove(&old, &guard);
        }
        Ok(())
    }

    /// A panic while it was held cannot have left the maps half-changed in a way that lets a
    /// request pass, so poison is no reason to stop serving.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TokenId, TokenRecord>> {
        self.0.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TokenStore for MemoryStore {
    fn find_cached(&self, credential: &Credential<'_>) -> Cached {
        let by_digest = self.0.by_digest.pin();
        match by_digest.get(&credential.digest().index()) {
            Some(record) => Cached::Found(record.clone()),
            None => Cached::NotFound,
        }
    }

    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        let by_digest = self.0.by_digest.pin();
        Ok(by_digest.get(&credential.digest().index()).cloned())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

/// Eight bytes of a SHA-256 digest are as uniform as any hash of them would be.
#[derive(Default)]
struct DigestIndex(u64);

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

/// A [`MemoryStore`] could not be changed as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryStoreError {
    /// A token with this id is there already.
    #[error("a token with this id exists")]
    DuplicateId,
    /// A token with this digest is there already.
    #[error("a token with this digest exists")]
    DuplicateDigest,
    /// There is no token with this id.
    #[error("no token has this id")]
    UnknownId,
}
