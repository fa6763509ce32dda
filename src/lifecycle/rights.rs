use std::time::SystemTime;

use super::actor::{Holder, Kind};
use super::diff::changed_fields;
use super::{LifecycleError, ServiceTokens};
use crate::audit::{AuditAction, AuditEvent};
use crate::registry::{Authority, AuthorityError, Write};
use crate::store::{ADMIN_SCOPE, DenialKind, StoreError, TokenRecord, TokenState, verdict};
use crate::token::TokenId;

/// What an actor may do, as it stood just before a change. The registry checks it again in the
/// transaction that writes.
pub(super) struct Rights {
    pub(super) authority: Option<Authority>,
    /// The record of the actor's token.
    record: Option<TokenRecord>,
}

impl Rights {
    pub(super) fn check(
        &self,
        before: Option<&TokenRecord>,
        after: &TokenRecord,
    ) -> Result<(), AuthorityError> {
        let Some(authority) = &self.authority else {
            return Ok(());
        };
        authority.check(self.record.as_ref(), before, after)
    }

    /// Returns whether the actor's token is still accepted and may make the call at all.
    pub(super) fn check_accepted(&self) -> Result<(), AuthorityError> {
        match &self.record {
            Some(record) => self.check(Some(record), record),
            None => Ok(()),
        }
    }

    /// Returns whether the actor may change this token in any way.
    pub(super) fn check_change(&self, record: &TokenRecord) -> Result<(), AuthorityError> {
        match &self.authority {
            Some(authority) if authority.is_possession() => {
                let revoked = record.clone().with_state(TokenState::Revoked);
                self.check(Some(record), &revoked)
            }
            _ => self.check(Some(record), record),
        }
    }

    /// Returns the latest expiry that the actor may give; `None` for any.
    pub(super) fn latest_expiry(&self) -> Option<SystemTime> {
        let record = self.record.as_ref()?;
        record
            .expires_at()
            .filter(|_| !record.scopes().allow(ADMIN_SCOPE))
    }
}

impl ServiceTokens {
    /// Finds out what the actor may do now. `is_conditional` says whether the change names the
    /// revision that it is made to.
    pub(super) async fn rights(&self, is_conditional: bool) -> Result<Rights, LifecycleError> {
        match &self.actor.kind {
            Kind::Operator(_) => Ok(Rights {
                authority: None,
                record: None,
            }),
            Kind::Possession(_, digest) => Ok(Rights {
                authority: Some(Authority::for_possession(*digest, self.clock.clone())),
                record: None,
            }),
            Kind::Holder(holder) => {
                let (authority, record) = self.find_actor(holder).await?;
                let requirement = holder.requirement.clone();
                let authority = authority.with_requirement(requirement);
                Ok(Rights {
                    authority: Some(authority.with_condition(is_conditional)),
                    record: Some(record),
                })
            }
        }
    }

    async fn find_actor(
        &self,
        holder: &Holder,
    ) -> Result<(Authority, TokenRecord), LifecycleError> {
        let (id, digest) = (holder.principal.id(), holder.principal.presented_digest());
        if let Some(record) = self.registry.get(id).await? {
            // What another store says of a token of the registry is older than the registry.
            if !holder.holds(&record) {
                return Err(LifecycleError::ActorTokenRejected(DenialKind::Unknown));
            }
            let authority = Authority::for_registered_token(id, digest, self.clock.clone());
            return Ok((authority, record));
        }
        let (Some(store), Some(credential)) = (&self.actor_store, &holder.credential) else {
            log_unknown_actor(id);
            return Err(LifecycleError::UnknownActor);
        };
        let found = store.find_uncached(credential).await?;
        let judged = verdict(found.clone(), credential, &*self.clock);
        let judged = judged.map_err(|denial| LifecycleError::ActorTokenRejected(denial.kind()))?;
        if judged.is_stale() {
            let why = "the store of the caller's token does not answer";
            return Err(StoreError::unavailable(why).into());
        }
        let record = found.filter(|record| record.id() == id && holder.holds(record));
        let record = record.ok_or(LifecycleError::ActorTokenRejected(DenialKind::Unknown))?;
        let authority = Authority::for_external_token(record.clone(), digest, self.clock.clone());
        Ok((authority, record))
    }

    /// Returns the record of the token that the actor holds, if it is one of the registry.
    #[cfg(feature = "api")]
    pub(crate) async fn own_record(&self) -> Result<TokenRecord, LifecycleError> {
        let Kind::Holder(holder) = &self.actor.kind else {
            return Err(LifecycleError::NotFound);
        };
        let (_, record) = self.find_actor(holder).await?;
        match self.registry.get(record.id()).await? {
            Some(_) => Ok(record),
            None => Err(LifecycleError::NotFound),
        }
    }

    /// Returns the change from one record to another, with its audit event and its authority.
    pub(super) fn write(
        &self,
        action: AuditAction,
        before: &TokenRecord,
        after: TokenRecord,
        rights: &Rights,
    ) -> Write {
        let event = AuditEvent::new(self.clock.now(), self.actor.name(), action, after.id())
            .with_client_address(self.actor.client_address());
        let event = changed_fields(before, &after)
            .into_iter()
            .fold(event, AuditEvent::with_change);
        Write::new(after, event)
            .with_unique_name(self.policy.unique_names())
            .with_authority(rights.authority.clone())
    }
}

/// The caller can do nothing about it, but the application can.
fn log_unknown_actor(id: TokenId) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: "tower_service_token",
        token_id = %id,
        "change refused: caller's token is not in the registry, and no store is declared with \
         ServiceTokens::with_actor_store",
    );
    #[cfg(not(feature = "tracing"))]
    let _ = id;
}
