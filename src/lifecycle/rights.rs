use std::time::SystemTime;

use futures_util::future::BoxFuture;

use super::actor::Kind;
use super::diff::changed_fields;
use super::{FieldProblem, Holder, LifecycleError, ServiceTokens};
use crate::audit::{AuditAction, AuditEvent};
use crate::principal::Principal;
use crate::registry::{
    ActorToken, Authority, AuthorityError, RegistryError, Write, check_transfer,
};
use crate::store::{
    ADMIN_SCOPE, DenialKind, READ_SCOPE, StoreError, TokenRecord, TokenState, verdict,
};
use crate::token::TokenId;

/// The rights of an actor just before a change. The registry checks them again in the transaction
/// that writes.
#[derive(Default)]
pub(super) struct Rights {
    /// `None` for an operator, who may change everything.
    pub(super) authority: Option<Authority>,
    /// The record of the actor's token, if the actor is the holder of one.
    record: Option<TokenRecord>,
    /// The owner whose tokens are the only ones that the actor may change.
    owner: Option<Box<str>>,
}

impl Rights {
    pub(super) fn check(
        &self,
        before: Option<&TokenRecord>,
        after: &TokenRecord,
    ) -> Result<(), RegistryError> {
        let Some(authority) = &self.authority else {
            return Ok(());
        };
        authority.check(self.record.as_ref(), before, after)
    }

    /// Checks that the actor's token is still accepted and meets the requirement of the call.
    pub(super) fn check_accepted(&self) -> Result<(), RegistryError> {
        match &self.record {
            Some(record) => self.check(Some(record), record),
            None => Ok(()),
        }
    }

    /// Checks that the actor may change this token. Every actor that may change a token in some way
    /// may revoke it, and some may do nothing else.
    pub(super) fn check_change(&self, record: &TokenRecord) -> Result<(), RegistryError> {
        if self.authority.is_none() {
            return Ok(());
        }
        let revoked = record.clone().with_state(TokenState::Revoked);
        self.check(Some(record), &revoked)
    }

    /// Checks that the actor may give a token of the owner `before`, or a new one, the owner `after`.
    ///
    /// Call it before anything that depends on that owner, such as its policy, which the actor must not
    /// learn otherwise.
    pub(super) fn check_owner(
        &self,
        before: Option<&str>,
        after: Option<&str>,
    ) -> Result<(), LifecycleError> {
        if self.owner.is_some() {
            if self.owner.as_deref() == after {
                return Ok(());
            }
            let detail = "the caller manages the tokens of one owner, and cannot set another";
            return Err(FieldProblem::new("/owner", detail).into());
        }
        let is_admin = match &self.record {
            Some(record) => record.scopes().allow(ADMIN_SCOPE),
            None => self.authority.is_none(),
        };
        if !is_admin {
            check_transfer(before, after)?;
        }
        Ok(())
    }

    /// Returns the rights of an actor that is confined to this owner, before they are read.
    pub(super) fn of_owner(owner: &str) -> Self {
        Self {
            owner: Some(owner.into()),
            ..Self::default()
        }
    }

    /// Returns the owner whose tokens are the only ones that the actor may change.
    pub(super) fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// Returns whether the actor may list all tokens.
    pub(super) fn may_list(&self) -> bool {
        let scopes = self.record.as_ref().map(TokenRecord::scopes);
        match scopes {
            Some(scopes) => scopes.allow(READ_SCOPE) || scopes.allow(ADMIN_SCOPE),
            None => self.authority.is_none(),
        }
    }

    /// Returns the latest expiry that the actor may grant, or `None` if there is no limit.
    pub(super) fn latest_expiry(&self) -> Option<SystemTime> {
        let record = self.record.as_ref()?;
        record
            .expires_at()
            .filter(|_| record.owner().is_some() || !record.scopes().allow(ADMIN_SCOPE))
    }
}

impl ServiceTokens {
    /// Returns the current rights of the actor. `is_conditional` is whether the caller named the
    /// revision of the token to change.
    ///
    /// Boxed, as other steps that several operations share: the code of an `async fn` is compiled again
    /// in each crate and codegen unit that awaits it.
    pub(super) fn rights(
        &self,
        is_conditional: bool,
    ) -> BoxFuture<'_, Result<Rights, LifecycleError>> {
        Box::pin(async move {
            let (authority, record, owner) = match &self.actor.kind {
                Kind::Operator(operator) => {
                    operator.confirm().await?;
                    return Ok(Rights::default());
                }
                Kind::Possession(_, digest) => {
                    let authority = Authority::new(ActorToken::Target(*digest), self.clock.clone());
                    (authority, None, None)
                }
                Kind::Owner(owner) => {
                    let rights = owner.rights().await?;
                    let id = rights.id.clone();
                    let authority = Authority::new(ActorToken::Owner(rights), self.clock.clone());
                    (authority, None, Some(id))
                }
                Kind::Holder(holder) => {
                    let (authority, record) = self.find_actor(holder).await?;
                    let authority = authority.with_requirement(holder.requirement.clone());
                    let owner = record.owner().map(Box::from);
                    let authority = authority.with_condition(is_conditional);
                    (authority, Some(record), owner)
                }
            };
            Ok(Rights {
                authority: Some(authority),
                record,
                owner,
            })
        })
    }

    async fn find_actor(
        &self,
        holder: &Holder,
    ) -> Result<(Authority, TokenRecord), LifecycleError> {
        let (id, digest) = (holder.principal.id(), holder.principal.presented_digest());
        if let Some(record) = self.registry.get(id).await? {
            // The record of the registry is newer than that of any other store.
            if !holder.holds(&record) {
                return Err(reject_actor(DenialKind::Unknown));
            }
            let actor = ActorToken::Registered(id, digest);
            let authority = Authority::new(actor, self.clock.clone());
            return Ok((authority, record));
        }
        let (Some(store), Some(credential)) = (&self.actor_store, &holder.credential) else {
            log_unknown_actor(&holder.principal);
            return Err(LifecycleError::UnknownActor);
        };
        let found = store.find_uncached(credential).await?;
        let principal = verdict(found.clone(), credential, &*self.clock);
        let principal = principal.map_err(|denial| reject_actor(denial.kind()))?;
        if principal.is_stale() {
            let error = "the store of the caller's token does not respond";
            return Err(StoreError::unavailable(error).into());
        }
        let record = found.filter(|record| record.id() == id && holder.holds(record));
        let record = record.ok_or_else(|| reject_actor(DenialKind::Unknown))?;
        let actor = ActorToken::External(record.clone(), digest);
        let authority = Authority::new(actor, self.clock.clone());
        Ok((authority, record))
    }

    /// Returns the owner to which the actor is confined now, or an error unless the actor is still
    /// accepted. A listing or a record is returned only after it.
    pub(super) async fn check_reader(&self) -> Result<Option<Box<str>>, LifecycleError> {
        if self.skips_read_check {
            return Ok(self.actor.confined_to().map(Box::from));
        }
        if self.actor.is_possession() {
            return Err(reject_actor(DenialKind::Unknown));
        }
        let rights = self.rights(false).await?;
        rights.check_accepted()?;
        Ok(rights.owner)
    }

    /// Returns the record of the actor's token if it is in the registry.
    #[cfg(feature = "api")]
    pub(crate) async fn own_record(&self) -> Result<TokenRecord, LifecycleError> {
        let Kind::Holder(holder) = &self.actor.kind else {
            return Err(LifecycleError::NotFound);
        };
        let (authority, record) = self.find_actor(holder).await?;
        if authority.is_registered() {
            Ok(record)
        } else {
            Err(LifecycleError::NotFound)
        }
    }

    /// Returns a token that the actor may change. The change itself checks it again.
    pub(crate) async fn get_to_change(&self, id: TokenId) -> Result<TokenRecord, LifecycleError> {
        let rights = self.rights(false).await?;
        rights.check_accepted()?;
        let record = self.find(id, rights.owner()).await?;
        let record = record.ok_or(LifecycleError::NotFound)?;
        rights.check_change(&record)?;
        Ok(record)
    }

    /// Creates the write that replaces `before` by `after`, with its audit event and authority.
    pub(super) fn write(
        &self,
        action: AuditAction,
        before: &TokenRecord,
        after: TokenRecord,
        rights: &Rights,
    ) -> Write {
        let actor = self.actor.name_for(&after);
        let event = AuditEvent::new(self.clock.now(), actor, action, after.id())
            .with_display_id(after.display_id())
            .with_client_address(self.actor.client_address());
        let event = changed_fields(before, &after)
            .into_iter()
            .fold(event, AuditEvent::with_change);
        Write::new(after, event).with_authority(rights.authority.clone())
    }
}

fn reject_actor(kind: DenialKind) -> LifecycleError {
    AuthorityError::ActorTokenRejected(kind).into()
}

/// Logged in addition to the error, because only the application can correct its setup.
fn log_unknown_actor(principal: &Principal) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: "tower_service_token",
        token_id = %principal.display_id(),
        "change rejected: caller's token is not in the registry, and no store is declared with \
         ServiceTokens::with_actor_store",
    );
    #[cfg(not(feature = "tracing"))]
    let _ = principal;
}
