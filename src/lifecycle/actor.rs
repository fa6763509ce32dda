use std::net::IpAddr;
use std::sync::Arc;

use super::{Owner, TokenPolicy};
use crate::digest::TokenDigest;
use crate::principal::{Principal, Requirement};
use crate::store::{Credential, TokenRecord};
use crate::token::TokenId;

/// Who creates and changes tokens, and with which rights.
///
/// Pass one to [`ServiceTokens::acting_for`](super::ServiceTokens::acting_for). A [`Principal`]
/// converts into the actor that holds its token, and an [`Owner`] into one that acts for it.
///
/// The [name](Self::name) of an actor begins with its kind, so that an operator's name cannot equal
/// a token's [displayed id](Principal::display_id): `operator:alice`, `token:6GcLxtJEDQ`, `owner:user:42`. It is stored as
/// [`created_by`](crate::store::TokenRecord::created_by) and in the audit trail.
#[derive(Clone, Debug)]
#[must_use]
pub struct Actor {
    pub(super) kind: Kind,
    /// Of a holder or an owner.
    pub(super) requirement: Option<Arc<Requirement>>,
    client_address: Option<IpAddr>,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// May change everything.
    Operator(Box<str>),
    Holder(Box<Holder>),
    Owner(Box<Owner>),
    /// Presents the secret of the token that it revokes.
    Possession(TokenId, TokenDigest),
}

/// The holder of a token, whose rights bound what it may change.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) principal: Principal,
    pub(super) credential: Option<Arc<Credential<'static>>>,
}

impl Holder {
    /// Returns whether the presented secret belongs to this token.
    pub(super) fn holds(&self, record: &TokenRecord) -> bool {
        let presented = self.principal.presented_digest();
        record.digests().any(|known| *known == presented)
    }
}

impl Actor {
    /// Creates an operator, who may grant and change everything, such as an administrator with access
    /// to the database.
    pub fn operator(name: impl Into<Box<str>>) -> Self {
        Self::of(Kind::Operator(name.into()))
    }

    /// Creates the holder of a token, who may grant and change only what the token covers.
    ///
    /// The token is read again in the transaction of each change. If it lives in another store than
    /// the tokens it changes, declare that store with
    /// [`with_actor_store`](super::ServiceTokens::with_actor_store) and add the
    /// [credential](Self::with_credential).
    pub fn holder(principal: Principal) -> Self {
        Self::of(Kind::Holder(Box::new(Holder {
            principal,
            credential: None,
        })))
    }

    /// Creates an actor that manages the tokens of an owner, which the application authenticated.
    pub fn owner(owner: Owner) -> Self {
        Self::of(Kind::Owner(Box::new(owner)))
    }

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
            requirement: None,
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

    /// Adds the credential that a holder presented, with which a
    /// [declared store](super::ServiceTokens::with_actor_store) is queried again before each change.
    /// Has an effect on holders only.
    pub fn with_credential(mut self, credential: Credential<'static>) -> Self {
        if let Kind::Holder(holder) = &mut self.kind {
            holder.credential = Some(Arc::new(credential));
        }
        self
    }

    /// Requires that a holder or an owner has these roles or scopes at the moment of each change. Those
    /// of an owner are the ones that its [check](Owner::with_check) returned just before, or that it was
    /// created with.
    ///
    /// Has no effect on operators, who may change everything, and on a
    /// [possession](Self::possession), which only revokes.
    pub fn with_requirement(mut self, requirement: impl Into<Arc<Requirement>>) -> Self {
        if matches!(self.kind, Kind::Holder(_) | Kind::Owner(_)) {
            self.requirement = Some(requirement.into());
        }
        self
    }

    /// Sets the requirement of a holder that has none. An owner needs none.
    #[cfg(feature = "api")]
    pub(crate) fn with_default_requirement(mut self, requirement: Arc<Requirement>) -> Self {
        if let Kind::Holder(_) = &self.kind {
            self.requirement.get_or_insert(requirement);
        }
        self
    }

    /// Returns the requirement of a holder or an owner, if it has one.
    #[cfg(feature = "api")]
    pub(crate) fn requirement(&self) -> Option<&Arc<Requirement>> {
        self.requirement.as_ref()
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
    /// the [displayed id](Principal::display_id) of the token.
    pub fn name(&self) -> String {
        match &self.kind {
            Kind::Operator(name) => format!("operator:{name}"),
            Kind::Holder(holder) => format!("token:{}", holder.principal.display_id()),
            Kind::Owner(owner) => format!("owner:{}", owner.id()),
            Kind::Possession(id, _) => format!("token:{id}"),
        }
    }

    /// Returns what distinguishes the actor from all others. It does not depend on displayed ids, which
    /// need not be unique.
    pub(super) fn key(&self) -> String {
        match &self.kind {
            Kind::Holder(holder) => format!("token:{}", holder.principal.id()),
            _ => self.name(),
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
    pub fn confined_to(&self) -> Option<&str> {
        match &self.kind {
            Kind::Owner(owner) => Some(owner.id()),
            Kind::Holder(holder) => holder.principal.owner(),
            Kind::Operator(_) | Kind::Possession(..) => None,
        }
    }

    /// Returns the rules that replace those of `ServiceTokens`.
    pub(super) fn policy(&self) -> Option<&TokenPolicy> {
        match &self.kind {
            Kind::Owner(owner) => owner.policy(),
            Kind::Operator(_) | Kind::Holder(_) | Kind::Possession(..) => None,
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
        Self::holder(principal)
    }
}

impl From<Owner> for Actor {
    fn from(owner: Owner) -> Self {
        Self::owner(owner)
    }
}
