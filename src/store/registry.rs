use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::authority::{Authority, AuthorityError};
use super::{AuditEvent, ListRequest, StoreError, TokenFilter, TokenPage, TokenRecord, TokenStore};
use crate::digest::TokenDigest;
use crate::token::TokenId;

/// A store that owns its tokens: they can be added, listed, changed and deleted.
///
/// [`ServiceTokens`](crate::ServiceTokens) is what applications use; this is what a store's author
/// implements. The rules, all of them checked by the conformance kit of the feature `testing`:
///
/// 1. Each method happens wholly or not at all, whoever else writes at the same time, from whatever
///    process; when it returned without an error, the change lasts as long as the store does.
/// 2. [`insert`](Self::insert) refuses an id that is taken, and a digest that any token has, as
///    its current or its previous one. It keeps the record's revision.
/// 3. [`update`](Self::update) replaces the record with the same id only if its revision is the
///    given one, and then counts it up by one. It keeps the stored `last_used_at`.
/// 4. Both hold a [write](Write)'s limits in the same step.
/// 5. [`touch`](Self::touch) moves `last_used_at` forward only, changes no revision, and passes
///    over ids that are not there.
/// 6. Every change but a touch is told to the [subscribers](TokenStore::subscribe).
/// 7. Each method that takes a [`Write`] calls [`Write::authorize`] in the same transaction, with the
///    record of [`Write::actor_id`] and the record that is to be replaced, both locked until the
///    transaction ends. If it returns an error, nothing changes.
/// 8. Changes and deletions are refused with [`RegistryError::LastAdmin`] if
///    [`Write::last_admin_check`] returns a time at which no other token
///    [may administer](TokenRecord::may_administer). Of two such changes at the same time, one is
///    refused. [`Write::check_last_admin`] does it over an iterator of records.
#[async_trait]
pub trait TokenRegistry: TokenStore {
    /// Adds a token.
    ///
    /// # Errors
    ///
    /// The id, the digest or the name is taken, there are too many tokens, or the store could not
    /// be asked. Nothing was changed.
    async fn insert(&self, write: &Write) -> Result<(), RegistryError>;

    /// The token with this id.
    ///
    /// # Errors
    ///
    /// The store could not look.
    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError>;

    /// The token with this current or previous digest.
    ///
    /// # Errors
    ///
    /// The store could not look.
    async fn find_by_digest(&self, digest: &TokenDigest)
    -> Result<Option<TokenRecord>, StoreError>;

    /// One page of the tokens that are asked for.
    ///
    /// # Errors
    ///
    /// The store could not look.
    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError>;

    /// Replaces a record that is still at the revision given in the new one, and returns the
    /// record as it is stored now.
    ///
    /// # Errors
    ///
    /// The token is not there or at another revision, a digest or the name is taken, or the store
    /// could not be asked. Nothing was changed.
    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError>;

    /// Makes several updates, each as [`update`](Self::update) would, and returns what became of
    /// each, in order. The default updates one after the other; a store that can write many records
    /// in one transaction should do so. If that transaction fails, each result is an error.
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

    /// Deletes a record that is still at the given revision.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    async fn delete(&self, write: &Write) -> Result<(), RegistryError>;

    /// Notes when tokens were last used. Each id occurs once.
    ///
    /// # Errors
    ///
    /// The store could not be asked. Some of the times may have been noted.
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

    /// After how long, at the latest, a change is seen by every request on every node. Default: at
    /// once.
    fn effective_within(&self) -> Duration {
        Duration::ZERO
    }
}

/// A record to be written, the limits to hold while doing so, and what is to be told of it.
///
/// A store that keeps an audit trail writes the [event](Self::event) in the same step as the
/// record.
#[derive(Clone, Debug)]
#[must_use]
pub struct Write {
    record: TokenRecord,
    event: AuditEvent,
    unique_name: bool,
    max_tokens: Option<u64>,
    authority: Option<Authority>,
    last_admin_check: Option<SystemTime>,
}

impl Write {
    /// Without limits.
    pub fn new(record: TokenRecord, event: AuditEvent) -> Self {
        Self {
            record,
            event,
            unique_name: false,
            max_tokens: None,
            authority: None,
            last_admin_check: None,
        }
    }

    /// Refuses a name that another token has which is not revoked. Only names written with this
    /// limit are compared. Default: not.
    pub fn with_unique_name(mut self, unique_name: bool) -> Self {
        self.unique_name = unique_name;
        self
    }

    /// Refuses an insertion when there are this many tokens which are not revoked. Default: any
    /// number.
    pub fn with_max_tokens(mut self, max_tokens: impl Into<Option<u64>>) -> Self {
        self.max_tokens = max_tokens.into();
        self
    }

    /// Makes the write only if the authority still holds in the transaction. The default is an
    /// operator, who may change everything.
    pub(crate) fn with_authority(mut self, authority: Option<Authority>) -> Self {
        self.authority = authority;
        self
    }

    /// Refuses the write if it leaves no token that [may administer](TokenRecord::may_administer)
    /// at `now`. The default is not to check.
    pub fn with_last_admin_check(mut self, now: impl Into<Option<SystemTime>>) -> Self {
        self.last_admin_check = now.into();
        self
    }

    /// Returns the token whose holder makes the write, if it is one of this registry.
    pub fn actor_id(&self) -> Option<TokenId> {
        self.authority.as_ref()?.registered_id()
    }

    /// Returns the time at which another token must be able to administer.
    pub fn last_admin_check(&self) -> Option<SystemTime> {
        self.last_admin_check
    }

    /// Checks the authority of the actor that makes the write. Call it inside the transaction, with the
    /// stored record of [`actor_id`](Self::actor_id) and the stored record that is to be replaced
    /// or deleted.
    ///
    /// # Errors
    ///
    /// Returns [`RegistryError::Unauthorized`] if the actor's token is no longer accepted, or does
    /// not hold what the change needs.
    pub fn authorize(
        &self,
        actor: Option<&TokenRecord>,
        before: Option<&TokenRecord>,
    ) -> Result<(), RegistryError> {
        let Some(authority) = &self.authority else {
            return Ok(());
        };
        Ok(authority.check(actor, before, &self.record)?)
    }

    /// Checks that one of `others`, the tokens besides the one that changes, may administer, if the
    /// write asks for that. Call it inside the transaction.
    ///
    /// # Errors
    ///
    /// Returns [`RegistryError::LastAdmin`] if none of them may.
    pub fn check_last_admin<'r>(
        &self,
        others: impl IntoIterator<Item = &'r TokenRecord>,
    ) -> Result<(), RegistryError> {
        let Some(now) = self.last_admin_check else {
            return Ok(());
        };
        let mut others = others.into_iter();
        if others.any(|record| record.id() != self.record.id() && record.may_administer(now)) {
            Ok(())
        } else {
            Err(RegistryError::LastAdmin)
        }
    }

    /// The record.
    pub fn record(&self) -> &TokenRecord {
        &self.record
    }

    /// What is to be told of it.
    pub fn event(&self) -> &AuditEvent {
        &self.event
    }

    /// The name that must not be taken, if any: none, too, if the record is revoked.
    pub fn reserved_name(&self) -> Option<&str> {
        let reserves = self.unique_name && self.record.state() != super::TokenState::Revoked;
        reserves.then(|| self.record.name())
    }

    /// How many tokens there may be after an insertion.
    pub fn max_tokens(&self) -> Option<u64> {
        self.max_tokens
    }
}

/// A registry did not make a change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A token with this id is there already.
    #[error("a token with this id exists")]
    DuplicateId,
    /// A token with this digest is there already.
    #[error("a token with this digest exists")]
    DuplicateDigest,
    /// Another token has this name.
    #[error("another token has this name")]
    NameTaken,
    /// There are as many tokens as there may be.
    #[error("there are as many tokens as allowed")]
    TooManyTokens,
    /// There is no token with this id.
    #[error("no token has this id")]
    UnknownId,
    /// The token was changed since it was read.
    #[error("the token was changed since it was read")]
    RevisionMismatch,
    /// The actor that makes the change lacks the authority for it.
    #[error(transparent)]
    Unauthorized(#[from] AuthorityError),
    /// No other token could administer tokens after the change.
    #[error("no other token may administer tokens")]
    LastAdmin,
    /// The store could not be asked. Whether the change was made is not known.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[async_trait]
impl<R: TokenRegistry + ?Sized> TokenRegistry for Arc<R> {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        (**self).insert(write).await
    }

    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        (**self).get(id).await
    }

    async fn find_by_digest(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        (**self).find_by_digest(digest).await
    }

    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
        (**self).list(request).await
    }

    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        (**self).update(write).await
    }

    async fn update_many(&self, writes: &[Write]) -> Vec<Result<TokenRecord, RegistryError>> {
        (**self).update_many(writes).await
    }

    async fn count(&self, filter: &TokenFilter, now: SystemTime) -> Result<u64, StoreError> {
        (**self).count(filter, now).await
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        (**self).delete(write).await
    }

    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        (**self).touch(uses).await
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        (**self).check_writable().await
    }

    fn effective_within(&self) -> Duration {
        (**self).effective_within()
    }
}
