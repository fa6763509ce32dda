mod registry;
mod table;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

pub use self::table::MemoryStoreError;
use self::table::{ByDigest, Table, Writer};
use super::{
    Cached, ChangeFeed, ChangeListener, Credential, StoreError, TokenChange, TokenRecord,
    TokenState, TokenStore,
};
use crate::digest::TokenDigest;
use crate::token::TokenId;

/// A store in the memory of the process, for tests and for tokens that are known at start.
///
/// 1. A lookup takes no lock and does not allocate. Its cost does not depend on the number of
///    tokens. Writers take turns; lookups do not wait for them.
/// 2. Every request that begins after a method returns sees its change.
/// 3. Clones share the tokens. Nothing is persisted.
/// 4. The store is also a [registry](crate::registry::TokenRegistry), for use with
///    [`ServiceTokens`](crate::ServiceTokens). Its own methods change records without a policy and
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
        self.commit(|tokens| {
            tokens.insert(&record)?;
            Ok(((), None, Some(record)))
        })
    }

    /// Replaces the record with the same id, and increments its revision. Another digest rotates
    /// the secret: the new secret is accepted before the old one is rejected, and the old one is
    /// rejected once this returns.
    ///
    /// # Errors
    ///
    /// Returns an error if no token has this id, or another token has this digest; nothing is
    /// changed.
    pub fn replace(&self, record: TokenRecord) -> Result<(), MemoryStoreError> {
        self.change(record.id(), |_| record)
    }

    /// Revokes the token permanently. Its record stays, so that a response can say that the token
    /// was revoked.
    ///
    /// # Errors
    ///
    /// Returns an error if no token has this id.
    pub fn revoke(&self, id: TokenId) -> Result<(), MemoryStoreError> {
        self.change(id, |known| known.with_state(TokenState::Revoked))
    }

    /// Removes the token and returns its record.
    pub fn remove(&self, id: TokenId) -> Option<TokenRecord> {
        let removed = self.commit(|tokens| {
            let record = tokens.remove(id).ok_or(())?;
            Ok::<_, ()>((record.clone(), Some(record), None))
        });
        removed.ok()
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
        next: impl FnOnce(TokenRecord) -> TokenRecord,
    ) -> Result<(), MemoryStoreError> {
        self.commit(|tokens| {
            let known = tokens.get(id).ok_or(MemoryStoreError::UnknownId)?;
            let record = next(known.clone()).with_revision(known.revision() + 1);
            let known = tokens.replace(&record)?;
            Ok(((), Some(known), Some(record)))
        })
    }

    /// Makes a change under the lock, then publishes the records before and after it.
    fn commit<T, E>(
        &self,
        change: impl FnOnce(&mut Writer<'_>) -> Result<(T, Option<TokenRecord>, Option<TokenRecord>), E>,
    ) -> Result<T, E> {
        let (value, before, after) = change(&mut self.lock())?;
        let change = TokenChange::between(before.as_ref(), after.as_ref());
        self.0.feed.publish(&change);
        Ok(value)
    }

    /// Ignores poison: a panic under the lock cannot leave maps that accept a wrong token.
    fn lock(&self) -> Writer<'_> {
        let table = self.0.table.lock().unwrap_or_else(PoisonError::into_inner);
        Writer::new(&self.0.by_digest, table)
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

    async fn find_again(
        &self,
        _: TokenId,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        let by_digest = self.0.by_digest.pin();
        Ok(by_digest.get(&digest.index()).cloned())
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
