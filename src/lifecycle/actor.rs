use std::net::IpAddr;
#[cfg(feature = "api")]
use std::sync::Arc;

use super::{Holder, Operator, Owner};
use crate::digest::TokenDigest;
use crate::principal::Principal;
#[cfg(feature = "api")]
use crate::principal::Requirement;
use crate::store::{Credential, TokenRecord};
use crate::token::TokenId;

/// Who creates and changes tokens, and with which rights.
///
/// Pass one to [`ServiceTokens::acting_for`](super::ServiceTokens::acting_for). An [`Operator`], a
/// [`Holder`], an [`Owner`] and a [`Principal`] convert into one.
///
/// The [name](Self::name) of an actor begins with its kind, so that an operator's name cannot equal
/// a token's [displayed id](Principal::display_id): `operator:alice`, `token:6GcLxtJEDQ`,
/// `owner:user:42`. It is stored as [`created_by`](crate::store::TokenRecord::created_by) and in the
/// audit trail.
#[derive(Clone, Debug)]
#[must_use]
pub struct Actor {
    pub(super) kind: Kind,
    client_address: Option<IpAddr>,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// May change everything.
    Operator(Operator),
    Holder(Box<Holder>),
    Owner(Box<Owner>),
    /// Presents the secret of the token that it revokes.
    Possession(TokenId, TokenDigest),
}

impl Actor {
    /// Creates an actor that may revoke the token whose secret it presents, and nothing else.
    ///
    /// The token may be disabled, expired, or the last administrator. The previous secret is accepted
    /// until its grace period ends.
    pub fn possession(id: TokenId, credential: &Credential<'_>) -> Self {
        Self::of(Kind::Possession(id, *credential.digest()))
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            client_address: None,
        }
    }

    /// Sets the address of the client that the actor's request came from, for the audit trail. The
    /// default is none.
    pub fn with_client_address(mut self, address: impl Into<Option<IpAddr>>) -> Self {
        self.client_address = address.into();
        self
    }

    /// Returns the address of the client that the actor's request came from, if it is known.
    pub fn client_address(&self) -> Option<IpAddr> {
        self.client_address
    }

    /// Sets the requirement of a holder that has none. An owner needs none.
    #[cfg(feature = "api")]
    pub(crate) fn with_default_requirement(mut self, requirement: Arc<Requirement>) -> Self {
        if let Kind::Holder(holder) = &mut self.kind {
            holder.requirement.get_or_insert(requirement);
        }
        self
    }

    /// Returns the requirement of a holder or an owner, if it has one.
    #[cfg(feature = "api")]
    pub(crate) fn requirement(&self) -> Option<&Arc<Requirement>> {
        match &self.kind {
            Kind::Holder(holder) => holder.requirement.as_ref(),
            Kind::Owner(owner) => owner.requirement(),
            Kind::Operator(_) | Kind::Possession(..) => None,
        }
    }

    /// Returns the owner that the actor acts for.
    #[cfg(feature = "api")]
    pub(crate) fn acting_owner(&self) -> Option<&Owner> {
        match &self.kind {
            Kind::Owner(owner) => Some(owner),
            Kind::Operator(_) | Kind::Holder(_) | Kind::Possession(..) => None,
        }
    }

    /// Returns the name in the audit trail: `operator:` and a name, `owner:` and its id, or `token:` and
    /// the [displayed id](Principal::display_id) of the token. The name of an owner ends with `#` and
    /// its [acting user](Owner::with_acting_user), if it has one.
    pub fn name(&self) -> String {
        match &self.kind {
            Kind::Operator(operator) => format!("operator:{}", operator.name()),
            Kind::Holder(holder) => format!("token:{}", holder.principal.display_id()),
            Kind::Owner(owner) => owner.audit_name(),
            Kind::Possession(id, _) => format!("token:{id}"),
        }
    }

    /// Returns whether the actor created this token. All acting users of an owner are one actor.
    pub(super) fn created(&self, record: &TokenRecord) -> bool {
        let Some(creator) = record.created_by() else {
            return false;
        };
        match &self.kind {
            Kind::Owner(owner) => owner.is_audit_name(creator),
            _ => self.name() == creator,
        }
    }

    /// Returns what distinguishes the actor from all others. It does not depend on displayed ids, which
    /// need not be unique, nor on the user that acts for an owner.
    pub(super) fn key(&self) -> String {
        match &self.kind {
            Kind::Holder(holder) => format!("token:{}", holder.principal.id()),
            Kind::Owner(owner) => format!("owner:{}", owner.id()),
            Kind::Operator(_) | Kind::Possession(..) => self.name(),
        }
    }

    /// Returns the name of the actor that changes this token. The token of a
    /// [possession](Self::possession) is the changed one, and its record has the displayed id.
    pub(super) fn name_for(&self, changed: &TokenRecord) -> String {
        match &self.kind {
            Kind::Possession(id, _) if *id == changed.id() => {
                format!("token:{}", changed.display_id())
            }
            _ => self.name(),
        }
    }

    /// Returns the owner whose tokens are the only ones that the actor sees and changes: an
    /// [`Owner`], or the [owner](Principal::owner) of a holder's token. `None` if the actor is not
    /// confined.
    ///
    /// If the holder's token was transferred since it was accepted, its calls are confined to the new
    /// owner.
    pub fn confined_to(&self) -> Option<&str> {
        match &self.kind {
            Kind::Owner(owner) => Some(owner.id()),
            Kind::Holder(holder) => holder.principal.owner(),
            Kind::Operator(_) | Kind::Possession(..) => None,
        }
    }

    /// Returns the id of the holder's token.
    pub(super) fn token_id(&self) -> Option<TokenId> {
        self.principal().map(Principal::id)
    }

    /// Returns the digest of the secret that the holder presented.
    pub(super) fn presented_digest(&self) -> Option<TokenDigest> {
        self.principal().map(Principal::presented_digest)
    }

    /// Returns the principal of a holder.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        match &self.kind {
            Kind::Holder(holder) => Some(&holder.principal),
            Kind::Operator(_) | Kind::Owner(_) | Kind::Possession(..) => None,
        }
    }

    /// Returns whether the actor presents the secret of the token that it revokes. It needs no
    /// confirmation to revoke the last administrator.
    pub(crate) fn is_possession(&self) -> bool {
        matches!(self.kind, Kind::Possession(..))
    }
}

impl From<Principal> for Actor {
    fn from(principal: Principal) -> Self {
        Holder::new(principal).into()
    }
}

impl From<Holder> for Actor {
    fn from(holder: Holder) -> Self {
        Self::of(Kind::Holder(Box::new(holder)))
    }
}

impl From<Operator> for Actor {
    fn from(operator: Operator) -> Self {
        Self::of(Kind::Operator(operator))
    }
}

impl From<Owner> for Actor {
    fn from(owner: Owner) -> Self {
        Self::of(Kind::Owner(Box::new(owner)))
    }
}
