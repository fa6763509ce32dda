use std::borrow::Cow;
use std::time::SystemTime;

use super::{Authority, RegistryError};
use crate::audit::AuditEvent;
use crate::store::{TokenRecord, TokenState};
use crate::token::TokenId;

/// A record to write, the limits to enforce, and its audit event.
///
/// A store with an audit log writes the [event](Self::event) in the same transaction as the record.
#[derive(Clone, Debug)]
#[must_use]
pub struct Write {
    record: TokenRecord,
    event: AuditEvent,
    unique_name: bool,
    max_tokens: Option<u64>,
    max_tokens_of_owner: Option<u64>,
    authority: Option<Authority>,
    last_admin_check: Option<SystemTime>,
}

impl Write {
    /// Creates a write without limits.
    pub fn new(record: TokenRecord, event: AuditEvent) -> Self {
        Self {
            record,
            event,
            unique_name: false,
            max_tokens: None,
            max_tokens_of_owner: None,
            authority: None,
            last_admin_check: None,
        }
    }

    /// Rejects a name that another unrevoked token of the same owner has. Only names written with this
    /// limit are compared. Tokens without an owner are compared with each other. The default is no
    /// limit.
    pub fn reserve_name(mut self, unique_name: bool) -> Self {
        self.unique_name = unique_name;
        self
    }

    /// Rejects an insertion if this many unrevoked tokens exist. The default is no limit.
    pub fn with_max_tokens(mut self, max_tokens: impl Into<Option<u64>>) -> Self {
        self.max_tokens = max_tokens.into();
        self
    }

    /// Rejects an insertion if the owner of the record has this many unrevoked tokens. Has no effect on
    /// records without an owner. The default is no limit.
    pub fn with_max_tokens_of_owner(mut self, max_tokens: impl Into<Option<u64>>) -> Self {
        self.max_tokens_of_owner = max_tokens.into();
        self
    }

    /// Makes the write only if the authority still holds in the transaction. The default is an
    /// operator, who may change everything.
    pub(crate) fn with_authority(mut self, authority: Option<Authority>) -> Self {
        self.authority = authority;
        self
    }

    /// Rejects the write if it leaves no token that [may administer](TokenRecord::may_administer)
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
    /// not hold what the change needs, and [`RegistryError::UnknownId`] if the token belongs to another
    /// owner than the one for whom the actor acts.
    pub fn authorize(
        &self,
        actor: Option<&TokenRecord>,
        before: Option<&TokenRecord>,
    ) -> Result<(), RegistryError> {
        let Some(authority) = &self.authority else {
            return Ok(());
        };
        authority.check(actor, before, &self.record)
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

    /// Checks the authority and the id of an insertion. `find` returns the stored record of an id, and
    /// `has_number` whether a stored id has this number.
    pub(crate) fn check_insert<'r>(
        &self,
        find: impl Fn(TokenId) -> Option<&'r TokenRecord>,
        has_number: impl Fn(i64) -> bool,
    ) -> Result<(), RegistryError> {
        self.authorize(self.actor_id().and_then(&find), None)?;
        let id = self.record.id();
        match find(id) {
            Some(_) => Err(RegistryError::DuplicateId),
            None if has_number(id.number()) => Err(RegistryError::DuplicateNumber),
            None => Ok(()),
        }
    }

    /// Checks the revision, the authority and the last administrator of an update or deletion, and
    /// returns the stored record. `find` returns the stored record of an id, and `records` are all
    /// tokens.
    pub(crate) fn check_change<'r>(
        &self,
        find: impl Fn(TokenId) -> Option<&'r TokenRecord>,
        records: impl IntoIterator<Item = &'r TokenRecord>,
    ) -> Result<&'r TokenRecord, RegistryError> {
        let stored = find(self.record.id()).ok_or(RegistryError::UnknownId)?;
        if stored.revision() != self.record.revision() {
            return Err(RegistryError::RevisionMismatch);
        }
        self.authorize(self.actor_id().and_then(&find), Some(stored))?;
        self.check_last_admin(records)?;
        Ok(stored)
    }

    /// Returns the record.
    pub fn record(&self) -> &TokenRecord {
        &self.record
    }

    /// Returns the audit event.
    pub fn event(&self) -> &AuditEvent {
        &self.event
    }

    /// Returns the [key of the name](Self::name_key) if it must be unique. A revoked record has none.
    pub fn reserved_name(&self) -> Option<Cow<'_, str>> {
        let reserves = self.unique_name && self.record.state() != TokenState::Revoked;
        reserves.then(|| self.name_key())
    }

    /// Returns the key under which the name of the record is reserved: the name, or for a token with an
    /// owner the owner, U+001F and the name, so that each owner has names of its own. A token keeps a
    /// reservation while the key stays the same.
    pub fn name_key(&self) -> Cow<'_, str> {
        name_key(&self.record)
    }

    /// Returns the maximum number of unrevoked tokens after an insertion.
    pub fn max_tokens(&self) -> Option<u64> {
        self.max_tokens
    }

    /// Returns the maximum number of unrevoked tokens of the record's owner after an insertion. A record
    /// without an owner has none.
    pub fn max_tokens_of_owner(&self) -> Option<u64> {
        self.max_tokens_of_owner
            .filter(|_| self.record.owner().is_some())
    }
}

/// Returns the key under which the name of a record is reserved. Neither an owner nor a name contains
/// control characters.
pub(crate) fn name_key(record: &TokenRecord) -> Cow<'_, str> {
    match record.owner() {
        Some(owner) => Cow::Owned(format!("{owner}\u{1f}{}", record.name())),
        None => Cow::Borrowed(record.name()),
    }
}
