use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use auto_impl::auto_impl;

use super::{ListRequest, RegistryError, TokenFilter, TokenPage, Write};
use crate::digest::TokenDigest;
use crate::store::{StoreError, TokenRecord, TokenStore};
use crate::token::TokenId;

/// A store that owns its tokens: it can add, list, change and delete them.
///
/// Applications use [`ServiceTokens`](crate::ServiceTokens); authors of a store implement this
/// trait. The conformance suite (feature `testing`) checks all of its rules:
///
/// 1. Each method is atomic, also among several processes. A change that returned without an error
///    is durable.
/// 2. [`insert`](Self::insert) rejects an id that exists, an id whose
///    [number](TokenId::number) another one has, and a digest that any token has, current or
///    previous. It keeps the record's revision.
/// 3. [`update`](Self::update) replaces the record with the same id only if its revision is the
///    given one, and increments the revision. It keeps the stored `last_used_at`.
/// 4. Both enforce the limits of a [write](Write) in the same transaction: the
///    [reserved name](Write::reserved_name), and at an insertion the
///    [maximum number](Write::max_tokens) of tokens and of
///    [tokens of the owner](Write::max_tokens_of_owner).
/// 5. [`touch`](Self::touch) only moves `last_used_at` forward, changes no revision, and skips
///    unknown ids.
/// 6. Every change except a touch is published to the [subscribers](TokenStore::subscribe).
/// 7. Each method that takes a [`Write`] calls [`Write::authorize`] in the same transaction, with the
///    record of [`Write::actor_id`] and the record that is to be replaced, both locked until the
///    transaction ends. If it returns an error, nothing changes.
/// 8. Changes and deletions are rejected with [`RegistryError::LastAdmin`] if
///    [`Write::last_admin_check`] returns a time at which no other token
///    [may administer](TokenRecord::may_administer). Of two such changes at the same time, one is
///    rejected. [`Write::check_last_admin`] does it over an iterator of records.
#[async_trait]
#[auto_impl(Arc)]
pub trait TokenRegistry: TokenStore {
    /// Adds a token.
    ///
    /// # Errors
    ///
    /// Returns an error if the id, the digest or the name is taken, if there are too many tokens,
    /// or if the store is unavailable. Nothing is changed.
    async fn insert(&self, write: &Write) -> Result<(), RegistryError>;

    /// Returns the token with this id.
    ///
    /// # Errors
    ///
    /// Returns an error if the store is unavailable.
    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError>;

    /// Returns the token with this current or previous digest.
    ///
    /// # Errors
    ///
    /// Returns an error if the store is unavailable.
    async fn find_by_digest(&self, digest: &TokenDigest)
    -> Result<Option<TokenRecord>, StoreError>;

    /// Lists one page of the tokens that match the whole filter.
    /// [`ServiceTokens`](crate::ServiceTokens) rejects pages and counts that ignore the
    /// [owner](TokenFilter::owner).
    ///
    /// # Errors
    ///
    /// Returns an error if the store is unavailable.
    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError>;

    /// Replaces a record if its revision is that of the new one. Returns the record as stored.
    ///
    /// # Errors
    ///
    /// Returns an error if the token does not exist or is at another revision, if a digest or the
    /// name is taken, or if the store is unavailable. Nothing is changed.
    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError>;

    /// Makes several updates, each as [`update`](Self::update) does, and returns their results in
    /// order. The default makes them one after the other. A store that can write many records in
    /// one transaction should do so; if the transaction fails, each result is an error.
    async fn update_many(&self, writes: &[Write]) -> Vec<Result<TokenRecord, RegistryError>> {
        let mut updated = Vec::with_capacity(writes.len());
        for write in writes {
            updated.push(self.update(write).await);
        }
        updated
    }

    /// Returns how many tokens the filter matches at `now`. The default lists them.
    ///
    /// # Errors
    ///
    /// Returns an error if the store is unavailable.
    async fn count(&self, filter: &TokenFilter, now: SystemTime) -> Result<u64, StoreError> {
        let mut request = ListRequest::new(filter.clone(), now).with_limit(ListRequest::MAX_LIMIT);
        let mut count = 0;
        loop {
            let page = self.list(&request).await?;
            count += page.records.len() as u64;
            let Some(next) = page.next else {
                return Ok(count);
            };
            request = request.with_cursor(next).map_err(StoreError::corrupt)?;
        }
    }

    /// Deletes a record if it is at the given revision.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    async fn delete(&self, write: &Write) -> Result<(), RegistryError>;

    /// Records when tokens were last used. Each id occurs once.
    ///
    /// # Errors
    ///
    /// Returns an error if the store is unavailable. Some of the times may be recorded.
    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError>;

    /// Checks that changes can be committed now, without changing a token: for health checks, at
    /// most once a second. The default succeeds.
    ///
    /// # Errors
    ///
    /// Returns an error if a change would fail, as on a full disk or a read-only server.
    async fn check_writable(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Returns the longest time until every request on every node sees a change. The default is
    /// zero.
    fn effective_within(&self) -> Duration {
        Duration::ZERO
    }
}
