mod status;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::authority::ADMIN_SCOPE;
use crate::clock::Timestamp;
use crate::digest::TokenDigest;
use crate::principal::{HasIdentity, Identity, Principal, Roles, Scopes};
use crate::token::{MintedToken, TokenId};

pub use self::status::{ParseTokenStatusError, TokenState, TokenStatus};

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
pub struct TokenRecord(Arc<Inner>);

/// The digest first: comparing it brings in the line with the reference count, the expiry and
/// the state as well.
#[derive(Clone)]
#[repr(C)]
struct Inner {
    digest: TokenDigest,
    state: TokenState,
    /// Whether `cold` has a `not_before`: spares the verdict a look there.
    has_start: bool,
    is_stale: bool,
    identity: Identity,
    cold: Option<Box<Cold>>,
}

/// What a verdict seldom needs, kept apart so that records without it stay small.
#[derive(Clone, Default)]
struct Cold {
    previous: Option<Previous>,
    not_before: Option<Timestamp>,
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    rotated_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    revision: u64,
    description: Option<Box<str>>,
    created_by: Option<Box<str>>,
    hint: Option<Box<str>>,
}

/// The secret from before the last rotation.
#[derive(Clone, Copy)]
pub(super) struct Previous {
    pub(super) digest: TokenDigest,
    pub(super) until: Timestamp,
}

impl HasIdentity for Inner {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn presented_digest(&self, is_previous: bool) -> TokenDigest {
        let previous = self.cold.as_ref().and_then(|cold| cold.previous);
        match previous.filter(|_| is_previous) {
            Some(previous) => previous.digest,
            None => self.digest,
        }
    }
}

impl TokenRecord {
    /// The record of a token with this digest: active, without name, roles, scopes or expiry.
    ///
    /// With the digest of a token minted elsewhere, this imports it.
    pub fn new(id: TokenId, digest: TokenDigest) -> Self {
        Self(Arc::new(Inner {
            digest,
            state: TokenState::Active,
            has_start: false,
            is_stale: false,
            identity: Identity::new(id),
            cold: None,
        }))
    }

    /// Names the token, for people and logs.
    pub fn with_name(mut self, name: impl Into<Box<str>>) -> Self {
        self.inner_mut().identity.name = name.into();
        self
    }

    /// Says what the token is for. Default: nothing.
    pub fn with_description<'a>(mut self, description: impl Into<Option<&'a str>>) -> Self {
        self.cold_mut().description = description.into().map(Box::from);
        self
    }

    /// Says whom the token acts for. Default: nobody.
    pub fn with_subject<'a>(mut self, subject: impl Into<Option<&'a str>>) -> Self {
        let subject = subject.into().map(Box::from);
        self.inner_mut().identity.cold_mut().subject = subject;
        self
    }

    /// Replaces the roles. See [`Roles`] for what a name is.
    pub fn with_roles<S: AsRef<str>>(mut self, roles: impl IntoIterator<Item = S>) -> Self {
        self.inner_mut().identity.roles = roles.into_iter().collect();
        self
    }

    /// Replaces the scopes. See [`Scopes`] for what a scope is.
    pub fn with_scopes<S: AsRef<str>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.inner_mut().identity.scopes = scopes.into_iter().collect();
        self
    }

    /// Adds a label, or replaces the one with this key.
    pub fn with_label(mut self, key: impl Into<Box<str>>, value: impl Into<Box<str>>) -> Self {
        let cold = self.inner_mut().identity.cold_mut();
        cold.labels.insert(key.into(), value.into());
        self
    }

    /// Removes all labels.
    pub fn without_labels(mut self) -> Self {
        self.inner_mut().identity.cold_mut().labels.clear();
        self
    }

    /// The first moment, to the millisecond, at which the token no longer works. Default: never.
    pub fn with_expires_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.inner_mut().identity.expires_at = time.into().map(Timestamp::from);
        self
    }

    /// The first moment, to the millisecond, at which the token works. Default: always.
    pub fn with_not_before(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        let start = time.into().map(Timestamp::from);
        self.inner_mut().has_start = start.is_some();
        self.cold_mut().not_before = start;
        self
    }

    /// Switches the token on or off.
    pub fn with_state(mut self, state: TokenState) -> Self {
        self.inner_mut().state = state;
        self
    }

    /// Gives the same token id another secret.
    pub fn with_digest(mut self, digest: TokenDigest) -> Self {
        self.inner_mut().digest = digest;
        self
    }

    /// The digest of the secret from before the last rotation, and the first moment, to the
    /// millisecond, at which it no longer works. Default: none works.
    pub fn with_previous_digest(
        mut self,
        previous: impl Into<Option<(TokenDigest, SystemTime)>>,
    ) -> Self {
        self.cold_mut().previous = previous.into().map(|(digest, until)| Previous {
            digest,
            until: until.into(),
        });
        self
    }

    /// When the token was created.
    pub fn with_created_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.cold_mut().created_at = time.into().map(Timestamp::from);
        self
    }

    /// Who created the token, by the [name](crate::lifecycle::Actor::name) of the actor.
    pub fn with_created_by<'a>(mut self, actor: impl Into<Option<&'a str>>) -> Self {
        self.cold_mut().created_by = actor.into().map(Box::from);
        self
    }

    /// When the record was last changed; use does not count.
    pub fn with_updated_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.cold_mut().updated_at = time.into().map(Timestamp::from);
        self
    }

    /// When the secret was last replaced.
    pub fn with_rotated_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.cold_mut().rotated_at = time.into().map(Timestamp::from);
        self
    }

    /// When the token was last used, as far as is known.
    pub fn with_last_used_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.cold_mut().last_used_at = time.into().map(Timestamp::from);
        self
    }

    /// How often the record was changed: what a [registry](super::TokenRegistry) compares before
    /// it replaces the record.
    pub fn with_revision(mut self, revision: u64) -> Self {
        self.cold_mut().revision = revision;
        self
    }

    /// The token's redacted text, such as `svctok-7Hq2mX9bTe_***`.
    pub fn with_hint<'a>(mut self, hint: impl Into<Option<&'a str>>) -> Self {
        self.cold_mut().hint = hint.into().map(Box::from);
        self
    }

    /// Marks what is known as older than it should be.
    #[cfg(feature = "introspection")]
    pub(super) fn into_stale(mut self) -> Self {
        self.inner_mut().is_stale = true;
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

    /// What the token is for.
    pub fn description(&self) -> Option<&str> {
        self.cold()?.description.as_deref()
    }

    /// When the token was created, if that is known.
    pub fn created_at(&self) -> Option<SystemTime> {
        self.cold()?.created_at.map(SystemTime::from)
    }

    /// Who created the token, if that is known.
    pub fn created_by(&self) -> Option<&str> {
        self.cold()?.created_by.as_deref()
    }

    /// When the record was last changed, if that is known.
    pub fn updated_at(&self) -> Option<SystemTime> {
        self.cold()?.updated_at.map(SystemTime::from)
    }

    /// When the secret was last replaced, if ever.
    pub fn rotated_at(&self) -> Option<SystemTime> {
        self.cold()?.rotated_at.map(SystemTime::from)
    }

    /// When the token was last used, if ever; behind by as much as
    /// [last uses](super::LastUsed) are gathered before they are written.
    pub fn last_used_at(&self) -> Option<SystemTime> {
        self.cold()?.last_used_at.map(SystemTime::from)
    }

    /// The digest of the secret from before the last rotation, whether its grace has ended or not.
    pub fn previous_digest(&self) -> Option<&TokenDigest> {
        Some(&self.cold()?.previous.as_ref()?.digest)
    }

    /// When the secret from before the last rotation stops working, or stopped.
    pub fn grace_ends_at(&self) -> Option<SystemTime> {
        self.previous().map(|previous| previous.until.into())
    }

    /// How often the record was changed.
    pub fn revision(&self) -> u64 {
        self.cold().map_or(0, |cold| cold.revision)
    }

    /// The token's redacted text, if it is of a form that has one.
    pub fn hint(&self) -> Option<&str> {
        self.cold()?.hint.as_deref()
    }

    /// What the token is good for at this time, in one word. Of several causes the most final one
    /// is told, as by the [verdict](super::verdict); a token not yet valid counts as active.
    pub fn status(&self, now: SystemTime) -> TokenStatus {
        match self.state() {
            TokenState::Revoked => TokenStatus::Revoked,
            TokenState::Disabled => TokenStatus::Disabled,
            TokenState::Active => match self.expiry() {
                Some(expiry) if Timestamp::from(now) >= expiry => TokenStatus::Expired,
                _ => TokenStatus::Active,
            },
        }
    }

    /// Returns whether this token may administer tokens at `now`: it is active, has started, has
    /// not expired, and its scopes allow `service-tokens:admin`.
    pub fn may_administer(&self, now: SystemTime) -> bool {
        self.status(now) == TokenStatus::Active
            && self.start().is_none_or(|start| start <= now.into())
            && self.scopes().allow(ADMIN_SCOPE)
    }

    /// The digest of the secret, and the one from before the last rotation.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &TokenDigest> {
        [self.digest()].into_iter().chain(self.previous_digest())
    }

    #[inline]
    pub(super) fn expiry(&self) -> Option<Timestamp> {
        self.0.identity.expires_at
    }

    #[inline]
    pub(super) fn start(&self) -> Option<Timestamp> {
        if self.0.has_start {
            self.cold()?.not_before
        } else {
            None
        }
    }

    #[inline]
    pub(super) fn previous(&self) -> Option<Previous> {
        self.cold()?.previous
    }

    #[inline]
    pub(super) fn into_principal(self, uses_previous_secret: bool) -> Principal {
        let is_stale = self.0.is_stale;
        Principal::new(self.0, uses_previous_secret, is_stale)
    }

    fn cold(&self) -> Option<&Cold> {
        self.0.cold.as_deref()
    }

    fn cold_mut(&mut self) -> &mut Cold {
        self.inner_mut().cold.get_or_insert_default()
    }

    fn inner_mut(&mut self) -> &mut Inner {
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
