use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::AuthorityError;
use crate::clock::Clock;
use crate::digest::TokenDigest;
use crate::principal::Requirement;
use crate::store::{ADMIN_SCOPE, DenialKind, TokenRecord, TokenState, verdict_of_digest};
use crate::token::TokenId;

/// The authority for a [write](super::Write).
///
/// The registry checks it inside the transaction that writes, by
/// [`Write::authorize`](super::Write::authorize): a token that was revoked, disabled, rotated or
/// lost rights before the commit changes nothing.
#[derive(Clone)]
pub(crate) struct Authority {
    actor: ActorToken,
    clock: Arc<dyn Clock>,
    requirement: Option<Arc<Requirement>>,
    is_conditional: bool,
}

/// Where the token of the actor is stored, and the digest that the actor presented.
#[derive(Clone, Debug)]
pub(crate) enum ActorToken {
    /// In the registry that is changed, which reads it again in the same transaction.
    Registered(TokenId, TokenDigest),
    /// In another store, which returned this record just before the write.
    External(TokenRecord, TokenDigest),
    /// The changed token itself, whose secret was presented to revoke it.
    Target(TokenDigest),
}

impl Authority {
    pub(crate) fn new(actor: ActorToken, clock: Arc<dyn Clock>) -> Self {
        Self {
            actor,
            clock,
            requirement: None,
            is_conditional: false,
        }
    }

    /// Requires that the actor has these roles or scopes at the time of the write.
    pub(crate) fn with_requirement(mut self, requirement: Option<Arc<Requirement>>) -> Self {
        self.requirement = requirement;
        self
    }

    /// Sets whether the caller named the revision to change, which a rotation by a previous secret
    /// needs.
    pub(crate) fn with_condition(mut self, is_conditional: bool) -> Self {
        self.is_conditional = is_conditional;
        self
    }

    /// Returns whether the authority is the secret of the changed token, which permits only its
    /// revocation.
    pub(crate) fn is_possession(&self) -> bool {
        matches!(self.actor, ActorToken::Target(_))
    }

    /// Returns the token that the registry must read in the transaction of the write.
    pub(super) fn registered_id(&self) -> Option<TokenId> {
        match self.actor {
            ActorToken::Registered(id, _) => Some(id),
            ActorToken::External(..) | ActorToken::Target(_) => None,
        }
    }

    /// Checks whether the change from `before` to `after` is permitted. `registered` is the stored
    /// record of [`registered_id`](Self::registered_id). For a deletion, `after` is the last record.
    pub(crate) fn check(
        &self,
        registered: Option<&TokenRecord>,
        before: Option<&TokenRecord>,
        after: &TokenRecord,
    ) -> Result<(), AuthorityError> {
        let unknown = AuthorityError::ActorTokenRejected(DenialKind::Unknown);
        let (actor, digest) = match &self.actor {
            ActorToken::Registered(_, digest) => (registered.ok_or(unknown)?, digest),
            ActorToken::External(record, digest) => (record, digest),
            ActorToken::Target(digest) => {
                let before = before.ok_or(unknown)?;
                return self.check_possession(before, digest, after);
            }
        };
        let is_previous = verdict_of_digest(actor, digest, &*self.clock)
            .map_err(AuthorityError::ActorTokenRejected)?;
        if let Some(requirement) = &self.requirement
            && !requirement.is_met_by_rights(actor.roles(), actor.scopes())
        {
            return Err(AuthorityError::RequirementNotMet(Arc::clone(requirement)));
        }
        let is_rotation = before.is_some_and(|before| before.digest() != after.digest());
        if is_rotation && is_previous && !self.is_conditional && after.id() == actor.id() {
            return Err(AuthorityError::PreviousSecret);
        }
        if actor.scopes().allow(ADMIN_SCOPE) {
            return Ok(());
        }
        let mut seen = HashSet::new();
        let targets = before.into_iter().chain([after]);
        let missing: Vec<String> = targets
            .flat_map(|target| missing_rights(actor, target))
            .filter(|name| seen.insert(*name))
            .map(str::to_owned)
            .collect();
        if !missing.is_empty() {
            return Err(AuthorityError::EscalationDenied { missing });
        }
        check_lifetime(actor, before, after)
    }

    fn check_possession(
        &self,
        before: &TokenRecord,
        digest: &TokenDigest,
        after: &TokenRecord,
    ) -> Result<(), AuthorityError> {
        if after.state() != TokenState::Revoked || after.id() != before.id() {
            return Err(AuthorityError::ActorTokenRejected(DenialKind::Unknown));
        }
        // A secret also revokes a disabled or expired token. A superseded secret does not.
        let unrestricted = before
            .clone()
            .with_state(TokenState::Active)
            .with_not_before(None)
            .with_expires_at(None);
        verdict_of_digest(&unrestricted, digest, &*self.clock)
            .map(drop)
            .map_err(AuthorityError::ActorTokenRejected)
    }
}

/// Returns the roles and scopes of `target` that `actor` does not cover.
fn missing_rights<'r>(
    actor: &'r TokenRecord,
    target: &'r TokenRecord,
) -> impl Iterator<Item = &'r str> {
    let roles = target.roles().iter();
    let roles = roles.filter(|role| !actor.roles().contains(role));
    let scopes = target.scopes().iter();
    let scopes = scopes.filter(|scope| !actor.scopes().allow(scope));
    roles.chain(scopes)
}

/// Returns an error if the change grants something that outlives the actor: a new token, a later
/// expiry, more rights, an enabled token, an earlier start, or the secret of another token.
fn check_lifetime(
    actor: &TokenRecord,
    before: Option<&TokenRecord>,
    after: &TokenRecord,
) -> Result<(), AuthorityError> {
    let Some(latest) = actor.expiry() else {
        return Ok(());
    };
    if after.expiry().is_some_and(|expiry| expiry <= latest) {
        return Ok(());
    }
    let grants = before.is_none_or(|before| {
        expires_later(after.expiry(), before.expiry())
            || adds_rights(before, after)
            || becomes_valid(before, after)
            || (before.digest() != after.digest() && before.id() != actor.id())
    });
    if grants {
        let latest = latest.into();
        return Err(AuthorityError::OutlivesActor { latest });
    }
    Ok(())
}

/// Returns whether the change enables the token or makes it valid earlier.
fn becomes_valid(before: &TokenRecord, after: &TokenRecord) -> bool {
    let is_active = |record: &TokenRecord| record.state() == TokenState::Active;
    (is_active(after) && !is_active(before)) || after.start() < before.start()
}

/// Returns whether `expiry` is later than `than`. `None` is the latest.
pub(crate) fn expires_later<T: Ord>(expiry: Option<T>, than: Option<T>) -> bool {
    (expiry.is_none(), expiry) > (than.is_none(), than)
}

/// Returns whether `after` has a role or a scope that `before` does not cover.
pub(crate) fn adds_rights(before: &TokenRecord, after: &TokenRecord) -> bool {
    !before.roles().covers(after.roles()) || !before.scopes().covers(after.scopes())
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("actor", &self.actor)
            .field("requirement", &self.requirement)
            .field("is_conditional", &self.is_conditional)
            .finish_non_exhaustive()
    }
}
