mod registry;
mod table;

use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use papaya::HashMap;

use self::table::Table;
use super::{
    Cached, ChangeFeed, ChangeListener, Credential, StoreError, TokenChange, TokenRecord,
    TokenState, TokenStore,
};
use crate::token::TokenId;

/// Tokens in this process's memory: for tests, for tokens known at start, and behind caches.
///
/// 1. Finding a token takes no lock and no allocation and costs the same with one token as with a
///    million. Writers take turns; no reader waits for them.
/// 2. A change is seen by every request that begins after the method returned.
/// 3. Clones share the same tokens. Nothing survives the process.
/// 4. It is a [registry](super::TokenRegistry) too, so [`ServiceTokens`](crate::ServiceTokens)
///    manage what is in it. The methods here are for tokens that need no such care.
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
    /// Read by requests, written only under the lock of `table`.
    by_digest: ByDigest,
    table: Mutex<Table>,
    feed: ChangeFeed,
}

type ByDigest = HashMap<u64, TokenRecord, BuildHasherDefault<DigestIndex>>;

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
        let change = TokenChange::between(None, Some(&record));
        self.lock().insert(&self.0.by_digest, record)?;
        self.0.feed.publish(&change);
        Ok(())
    }

    /// Replaces the record with the same id, and counts its revision up. With another digest this
    /// rotates the secret: the new one works before the old one stops, and the old one is refused
    /// when this returns.
    ///
    /// # Errors
    ///
    /// No token has this id, or another token has this digest; nothing was changed.
    pub fn replace(&self, record: TokenRecord) -> Result<(), MemoryStoreError> {
        self.change(record.id(), |known| {
            record.with_revision(known.revision() + 1)
        })
    }

    /// Refuses the token from now on, and for good: its record stays, so that its holder is told.
    ///
    /// # Errors
    ///
    /// No token has this id.
    pub fn revoke(&self, id: TokenId) -> Result<(), MemoryStoreError> {
        self.change(id, |known| {
            let revision = known.revision() + 1;
            let revoked = known.clone().with_state(TokenState::Revoked);
            revoked.with_revision(revision)
        })
    }

    /// Forgets the token and returns what was known about it.
    pub fn remove(&self, id: TokenId) -> Option<TokenRecord> {
        let record = self.lock().remove(&self.0.by_digest, id)?;
        self.publish(Some(&record), None);
        Some(record)
    }

    /// What is known about the token with this id.
    pub fn get(&self, id: TokenId) -> Option<TokenRecord> {
        self.lock().get(id).cloned()
    }

    /// How many tokens there are, revoked ones included.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn change(
        &self,
        id: TokenId,
        next: impl FnOnce(&TokenRecord) -> TokenRecord,
    ) -> Result<(), MemoryStoreError> {
        let mut table = self.lock();
        let known = table.get(id).cloned().ok_or(MemoryStoreError::UnknownId)?;
        let record = next(&known);
        table.replace(&self.0.by_digest, &record)?;
        drop(table);
        self.publish(Some(&known), Some(&record));
        Ok(())
    }

    fn publish(&self, before: Option<&TokenRecord>, after: Option<&TokenRecord>) {
        self.0.feed.publish(&TokenChange::between(before, after));
    }

    /// A panic while it was held cannot have left the maps half-changed in a way that lets a
    /// request pass, so poison is no reason to stop serving.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.0.feed.subscribe(listener);
    }

    fn feed_delay(&self) -> Option<Duration> {
        Some(Duration::ZERO)
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
