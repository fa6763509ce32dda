use super::actor::Kind;
use super::field_rules::is_line;
use super::rights::Rights;
use super::{LifecycleError, Patch, ServiceTokens, TokenPolicy};
use crate::audit::AuditAction;
use crate::store::{StoreError, TokenRecord};

/// The number of attempts to read the rules while the actor's token is transferred.
const MAX_ATTEMPTS: usize = 100;

/// The rights of an actor, and the rules for the token that it creates or changes.
pub(super) type Authorized = (Rights, Result<TokenPolicy, LifecycleError>);

/// A change to a token.
pub(super) struct Change<'a> {
    pub(super) action: AuditAction,
    /// The permitted revisions; `None` for any.
    pub(super) revisions: Option<&'a [u64]>,
    pub(super) owner: &'a Patch<String>,
}

impl Change<'_> {
    /// Returns whether the rules apply to the token. Those that end it need none, so that they do not
    /// depend on the source of the rules.
    pub(super) fn has_rules(&self) -> bool {
        !matches!(self.action, AuditAction::Disabled | AuditAction::Revoked)
    }

    /// Returns the owner of the token after the change, if the actor may change the token and give it
    /// this owner.
    pub(super) fn next_owner(
        &self,
        rights: &Rights,
        before: &TokenRecord,
    ) -> Result<Option<String>, LifecycleError> {
        rights.check_change(before)?;
        let owner = match self.owner {
            Patch::Keep => before.owner(),
            Patch::Clear => None,
            Patch::Set(owner) => Some(&**owner),
        };
        rights.check_owner(before.owner(), owner)?;
        Ok(owner.map(str::to_owned))
    }
}

impl ServiceTokens {
    /// Returns the rights of the actor, and the rules for the token that it creates or changes.
    /// `next_owner` returns the owner of that token, or an error if the actor may not make the change.
    ///
    /// 1. The rules of an owner are queried only for an actor that may give the token this owner.
    ///    Their answer would reveal which owners exist and what they may do.
    /// 2. The rights are read last, so that they are current when the token is written.
    pub(super) async fn authorize(
        &self,
        is_conditional: bool,
        next_owner: impl Fn(&Rights) -> Result<Option<String>, LifecycleError>,
    ) -> Result<Authorized, LifecycleError> {
        let mut rights = self.rights_before_rules().await?;
        for _ in 0..MAX_ATTEMPTS {
            let known = next_owner(&rights).ok();
            let policy = self.policy_of_permitted(known.as_ref()).await;
            let current = self.rights(is_conditional).await?;
            current.check_accepted()?;
            let owner = next_owner(&current)?;
            if self.owner_policies.is_none() || known == Some(owner) {
                return Ok((current, policy));
            }
            // The token of a holder was transferred, or became an administrator's.
            rights = current;
        }
        Err(StoreError::unavailable("too many concurrent changes of the caller's token").into())
    }

    /// Returns rights that decide which rules are queried. They authorize nothing else.
    async fn rights_before_rules(&self) -> Result<Rights, LifecycleError> {
        match &self.actor.kind {
            _ if self.owner_policies.is_none() => Ok(Rights::default()),
            Kind::Operator(_) => Ok(Rights::default()),
            Kind::Owner(owner) => Ok(Rights::of_owner(owner.id())),
            Kind::Holder(_) | Kind::Possession(..) => self.rights(false).await,
        }
    }

    /// Returns the rules for a token of this owner, and those for all tokens if the change is not
    /// permitted or the owner is invalid.
    async fn policy_of_permitted(
        &self,
        owner: Option<&Option<String>>,
    ) -> Result<TokenPolicy, LifecycleError> {
        let owner = owner.and_then(Option::as_deref);
        let policy = self.policy_of(owner.filter(|owner| is_line(owner))).await?;
        Ok(policy)
    }
}
