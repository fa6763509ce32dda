mod registry;
mod table;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

pub use self::table::MemoryStoreError;
use self::table::{ByDigest, Table};
use super::{
    Cached, ChangeFeed, ChangeListener, Credential, StoreError, TokenChange, TokenRecord,
    TokenState, TokenStore,
};
use crate::token::TokenId;

/// Tokens in the memory of the process: for tests, and for tokens that are known at start.
///
/// 1. A lookup takes no lock and does not allocate. Its cost does not depend on the number of
///    tokens. Writers exclude each other; readers do not wait for them.
/// 2. Every request that begins after the method returned sees the change.
/// 3. Clones share the tokens. Nothing is persisted.
/// 4. It is also a [registry](crate::registry::TokenRegistry), for use with
///    [`ServiceTokens`](crate::ServiceTokens). The methods here change records without a policy and
///    an audit event.
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

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a token.
    ///
    /// # Errors
    ///
    /// Returns an error if the id or the digest exists; nothing is changed.
    pub fn insert(&self, record: TokenRecord) -> Result<(), MemoryStoreError> {
        let change = TokenChange::between(None, Some(&record));
        self.lock().insert(&self.0.by_digest, record)?;
        self.0.feed.publish(&change);
        Ok(())
    }

    /// Replaces the record with the same id, and increments its revision. Another digest rotates
    /// the secret: the new one works before the old one stops, and the old one is rejected once
    /// this returns.
    ///
    /// # Errors
    ///
    /// Returns an error if no token has this id, or another token has this digest; nothing is
    /// changed.
    pub fn replace(&self, record: TokenRecord) -> Result<(), MemoryStoreError> {
        self.change(record.id(), |known| {
            record.with_revision(known.revision() + 1)
        })
    }

    /// Revokes the token for good. Its record stays, so that the response can say that it was
    /// revoked.
    ///
    /// # Errors
    ///
    /// Returns an error if no token has this id.
    pub fn revoke(&self, id: TokenId) -> Result<(), MemoryStoreError> {
        self.change(id, |known| {
            let revision = known.revision() + 1;
            let revoked = known.clone().with_state(TokenState::Revoked);
            revoked.with_revision(revision)
        })
    }

    /// Removes the token and returns its record.
    pub fn remove(&self, id: TokenId) -> Option<TokenRecord> {
        let record = self.lock().remove(&self.0.by_digest, id)?;
        self.publish(Some(&record), None);
        Some(record)
    }

    /// Returns the record of the token with this id.
    pub fn get(&self, id: TokenId) -> Option<TokenRecord> {
        self.lock().get(id).cloned()
    }

    /// Returns the number of tokens, including revoked ones.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Returns whether the store is empty.
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

    /// A panic under the lock cannot leave the maps in a state that accepts a wrong token, so
    /// poison is ignored.
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
