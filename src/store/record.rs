use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::clock::Timestamp;
use crate::digest::TokenDigest;
use crate::principal::{Identified, Identity, Principal, Roles, Scopes};
use crate::token::{MintedToken, TokenId};

/// What a store knows about a token. Never the secret.
///
/// Cheap to clone: one [`Arc`]. The `with_…` methods change this record and no clone of it.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_service_token::store::TokenRecord;
/// use tower_service_token::token::TokenFormat;
///
/// let token = TokenFormat::default().mint()?;
/// let record = TokenRecord::from(&token)
///     .with_name("nightly build")
///     .with_roles(["deployer"])
///     .with_scopes(["projects:write"])
///     .with_expires_at(SystemTime::now() + Duration::from_secs(3600));
/// assert_eq!(record.id(), token.id());
/// # Ok::<_, tower_service_token::token::MintError>(())
/// ```
#[derive(Clone)]
pub struct TokenRecord(Arc<Kept>);

/// The digest first: comparing it brings in the line with the reference count, the expiry and
/// the state as well.
#[derive(Clone)]
#[repr(C)]
struct Kept {
    digest: TokenDigest,
    state: TokenState,
    not_before: Option<Timestamp>,
    identity: Identity,
}

impl Identified for Kept {
    fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// Whether a token is switched on. Time is judged apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenState {
    /// It works, as far as its times allow.
    #[default]
    Active,
    /// It is refused until it is enabled again.
    Disabled,
    /// It is refused for good.
    Revoked,
}

impl TokenRecord {
    /// The record of a token with this digest: active, without name, roles, scopes or expiry.
    ///
    /// With the digest of a token minted elsewhere, this imports it.
    pub fn new(id: TokenId, digest: TokenDigest) -> Self {
        Self(Arc::new(Kept {
            digest,
            state: TokenState::Active,
            not_before: None,
            identity: Identity::new(id),
        }))
    }

    /// Names the token, for people and logs.
    pub fn with_name(mut self, name: impl Into<Box<str>>) -> Self {
        self.kept_mut().identity.name = name.into();
        self
    }

    /// Says whom the token acts for.
    pub fn with_subject(mut self, subject: impl Into<Box<str>>) -> Self {
        self.kept_mut().identity.rest_mut().subject = Some(subject.into());
        self
    }

    /// Replaces the roles. See [`Roles`] for what a name is.
    pub fn with_roles<S: AsRef<str>>(mut self, roles: impl IntoIterator<Item = S>) -> Self {
        self.kept_mut().identity.roles = roles.into_iter().collect();
        self
    }

    /// Replaces the scopes. See [`Scopes`] for what a scope is.
    pub fn with_scopes<S: AsRef<str>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.kept_mut().identity.scopes = scopes.into_iter().collect();
        self
    }

    /// Adds a label, or replaces the one with this key.
    pub fn with_label(mut self, key: impl Into<Box<str>>, value: impl Into<Box<str>>) -> Self {
        let rest = self.kept_mut().identity.rest_mut();
        rest.labels.insert(key.into(), value.into());
        self
    }

    /// The first moment, to the millisecond, at which the token no longer works. Default: never.
    pub fn with_expires_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.kept_mut().identity.expires_at = time.into().map(Timestamp::from);
        self
    }

    /// The first moment, to the millisecond, at which the token works. Default: always.
    pub fn with_not_before(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.kept_mut().not_before = time.into().map(Timestamp::from);
        self
    }

    /// Switches the token on or off.
    pub fn with_state(mut self, state: TokenState) -> Self {
        self.kept_mut().state = state;
        self
    }

    /// Gives the same token id another secret.
    pub fn with_digest(mut self, digest: TokenDigest) -> Self {
        self.kept_mut().digest = digest;
        self
    }

    /// The public id.
    pub fn id(&self) -> TokenId {
        self.0.identity.id
    }

    /// The digest of the secret.
    pub fn digest(&self) -> &TokenDigest {
        &self.0.digest
    }

    /// The name; empty if none.
    pub fn name(&self) -> &str {
        &self.0.identity.name
    }

    /// Whom the token acts for.
    pub fn subject(&self) -> Option<&str> {
        self.0.identity.subject()
    }

    /// The roles.
    pub fn roles(&self) -> &Roles {
        &self.0.identity.roles
    }

    /// The scopes.
    pub fn scopes(&self) -> &Scopes {
        &self.0.identity.scopes
    }

    /// The labels, by key.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.identity.labels()
    }

    /// When the token stops working, if ever.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expiry().map(SystemTime::from)
    }

    /// When the token starts working, if that was set.
    pub fn not_before(&self) -> Option<SystemTime> {
        self.start().map(SystemTime::from)
    }

    /// Whether the token is switched on.
    pub fn state(&self) -> TokenState {
        self.0.state
    }

    pub(super) fn expiry(&self) -> Option<Timestamp> {
        self.0.identity.expires_at
    }

    pub(super) fn start(&self) -> Option<Timestamp> {
        self.0.not_before
    }

    pub(super) fn into_principal(self) -> Principal {
        Principal::new(self.0)
    }

    fn kept_mut(&mut self) -> &mut Kept {
        Arc::make_mut(&mut self.0)
    }
}

impl From<&MintedToken> for TokenRecord {
    fn from(token: &MintedToken) -> Self {
        Self::new(token.id(), TokenDigest::of(token.expose_secret()))
    }
}

impl fmt::Debug for TokenRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.identity.fmt(f, "TokenRecord")
    }
}
