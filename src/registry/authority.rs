use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::{AuthorityError, RegistryError};
use crate::clock::Clock;
use crate::digest::TokenDigest;
use crate::principal::{Requirement, Roles, Scopes};
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
    /// Not a token: an owner that the application authenticated.
    Owner(OwnerRights),
}

/// An owner, and what it may grant to its tokens.
#[derive(Clone, Debug)]
pub(crate) struct OwnerRights {
    pub(crate) id: Box<str>,
    pub(crate) roles: Roles,
    pub(crate) scopes: Scopes,
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

    /// Returns whether the token of the actor is in the registry that is changed.
    #[cfg(feature = "api")]
    pub(crate) fn is_registered(&self) -> bool {
        self.registered_id().is_some()
    }

    /// Returns the token that the registry must read in the transaction of the write.
    pub(super) fn registered_id(&self) -> Option<TokenId> {
        match self.actor {
            ActorToken::Registered(id, _) => Some(id),
            ActorToken::External(..) | ActorToken::Target(_) | ActorToken::Owner(_) => None,
        }
    }

    /// Checks whether the change from `before` to `after` is permitted. `registered` is the stored
    /// record of [`registered_id`](Self::registered_id). For a deletion, `after` is the last record.
    pub(crate) fn check(
        &self,
        registered: Option<&TokenRecord>,
        before: Option<&TokenRecord>,
        after: &TokenRecord,
    ) -> Result<(), RegistryError> {
        let unknown = AuthorityError::ActorTokenRejected(DenialKind::Unknown);
        let (actor, digest) = match &self.actor {
            ActorToken::Registered(_, digest) => (registered.ok_or(unknown)?, digest),
            ActorToken::External(record, digest) => (record, digest),
            ActorToken::Target(digest) => {
                let before = before.ok_or(unknown)?;
                return Ok(self.check_possession(before, digest, after)?);
            }
            ActorToken::Owner(owner) => {
                check_owner(&owner.id, before, after)?;
                if is_end(before, after) {
                    return Ok(());
                }
                return Ok(check_rights(&owner.roles, &owner.scopes, before, after)?);
            }
        };
        let is_previous = verdict_of_digest(actor, digest, &*self.clock)
            .map_err(AuthorityError::ActorTokenRejected)?;
        if let Some(requirement) = &self.requirement
            && !requirement.is_met_by_rights(actor.roles(), actor.scopes())
        {
            return Err(AuthorityError::RequirementNotMet(Arc::clone(requirement)).into());
        }
        if let Some(owner) = actor.owner() {
            check_owner(owner, before, after)?;
        }
        let is_rotation = before.is_some_and(|before| before.digest() != after.digest());
        if is_rotation && is_previous && !self.is_conditional && after.id() == actor.id() {
            return Err(AuthorityError::PreviousSecret.into());
        }
        // An administrator with an owner may end each token of the owner. It grants only what it holds:
        // otherwise the scope `**` of a tenant would give it every role of the application.
        let is_admin = actor.scopes().allow(ADMIN_SCOPE);
        if is_admin && (actor.owner().is_none() || is_end(before, after)) {
            return Ok(());
        }
        if actor.owner().is_none() {
            check_transfer(before.and_then(TokenRecord::owner), after.owner())?;
        }
        check_rights(actor.roles(), actor.scopes(), before, after)?;
        Ok(check_lifetime(actor, before, after)?)
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

/// Checks that the token belongs to `owner` before and after the change. The error is that of an
/// unknown id, so that it does not reveal tokens of others.
fn check_owner(
    owner: &str,
    before: Option<&TokenRecord>,
    after: &TokenRecord,
) -> Result<(), RegistryError> {
    let mut records = before.into_iter().chain([after]);
    if records.all(|record| record.owner() == Some(owner)) {
        Ok(())
    } else {
        Err(RegistryError::UnknownId)
    }
}

/// Checks that the owner of the token stays the same. Otherwise a token that may write would put
/// tokens among those of each owner, use up its maximum number, and take its tokens away.
pub(crate) fn check_transfer(
    before: Option<&str>,
    after: Option<&str>,
) -> Result<(), AuthorityError> {
    if before == after {
        return Ok(());
    }
    let missing = vec![ADMIN_SCOPE.to_owned()];
    Err(AuthorityError::EscalationDenied { missing })
}

/// Returns whether the change disables, revokes or deletes the token and changes nothing else.
fn is_end(before: Option<&TokenRecord>, after: &TokenRecord) -> bool {
    fn fields(record: &TokenRecord) -> impl PartialEq + '_ {
        (
            (
                record.name(),
                record.description(),
                record.subject(),
                record.owner(),
            ),
            (record.expiry(), record.start(), record.grace_ends_at()),
            (record.roles(), record.scopes()),
        )
    }
    before.is_some_and(|before| {
        !becomes_valid(before, after)
            && before.id() == after.id()
            && fields(before) == fields(after)
            && before.labels().eq(after.labels())
            && before.digests().eq(after.digests())
    })
}

/// Checks that the roles and scopes of an actor cover those of the token before and after the change.
fn check_rights(
    roles: &Roles,
    scopes: &Scopes,
    before: Option<&TokenRecord>,
    after: &TokenRecord,
) -> Result<(), AuthorityError> {
    let mut seen = HashSet::new();
    let targets = before.into_iter().chain([after]);
    let missing: Vec<String> = targets
        .flat_map(|target| {
            let missing_roles = target.roles().iter().filter(|role| !roles.contains(role));
            let missing_scopes = target.scopes().iter().filter(|scope| !scopes.allow(scope));
            missing_roles.chain(missing_scopes)
        })
        .filter(|name| seen.insert(*name))
        .map(str::to_owned)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(AuthorityError::EscalationDenied { missing })
    }
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
