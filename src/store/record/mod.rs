mod data;
mod debug;
mod own_table;
mod principal;
#[cfg(feature = "tokio")]
mod rights_digest;
mod rotation_key;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::clock::UnixMillis;
use crate::digest::TokenDigest;
use crate::principal::{Roles, Scopes};
use crate::token::{DisplayId, MintedToken, TokenId};

use self::data::Data;
pub use self::principal::Principal;
#[cfg(feature = "tokio")]
pub use self::rights_digest::RightsDigest;
pub use self::rotation_key::RotationKey;
pub(crate) use self::rotation_key::{Repetition, RotationRequest};
pub use self::status::{ParseTokenStatusError, TokenState, TokenStatus};

/// The record of a token. It never contains the secret.
///
/// A clone is one [`Arc`]. The `with_…` methods change this record, not its clones.
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

/// The digest is first: comparing it loads the cache line with the reference count, the expiry and
/// the state.
#[derive(Clone)]
#[repr(C)]
struct Inner {
    digest: TokenDigest,
    state: TokenState,
    /// Whether `cold` has a `not_before`, so that the verdict need not read it.
    has_start: bool,
    is_stale: bool,
    expires_at: Option<UnixMillis>,
    id: TokenId,
    name: Box<str>,
    roles: Roles,
    scopes: Scopes,
    attributes: Option<Box<Attributes>>,
    cold: Option<Box<Cold>>,
}

/// Fields of the caller that most tokens lack, boxed so that records without them stay small.
#[derive(Clone, Default)]
struct Attributes {
    subject: Option<Box<str>>,
    labels: BTreeMap<Box<str>, Box<str>>,
    display_id: Option<DisplayId>,
    data: Data,
}

/// Fields that a verdict seldom needs, boxed so that records without them stay small.
#[derive(Clone, Default)]
struct Cold {
    previous: Option<Previous>,
    not_before: Option<UnixMillis>,
    created_at: Option<UnixMillis>,
    updated_at: Option<UnixMillis>,
    rotated_at: Option<UnixMillis>,
    last_used_at: Option<UnixMillis>,
    revision: u64,
    owner: Option<Box<str>>,
    description: Option<Box<str>>,
    created_by: Option<Box<str>>,
    rotation_key: Option<Box<RotationKey>>,
    hint: Option<Box<str>>,
}

/// The previous secret, from before the last rotation.
#[derive(Clone, Copy)]
pub(super) struct Previous {
    pub(super) digest: TokenDigest,
    pub(super) until: UnixMillis,
}

impl TokenRecord {
    /// Creates an active record without name, roles, scopes and expiry.
    ///
    /// Pass the digest of a token minted elsewhere to import it.
    pub fn new(id: TokenId, digest: TokenDigest) -> Self {
        Self(Arc::new(Inner {
            digest,
            state: TokenState::Active,
            has_start: false,
            is_stale: false,
            expires_at: None,
            id,
            name: Box::default(),
            roles: Roles::default(),
            scopes: Scopes::default(),
            attributes: None,
            cold: None,
        }))
    }

    /// Sets the name, for people and logs.
    pub fn with_name(mut self, name: impl Into<Box<str>>) -> Self {
        self.inner_mut().name = name.into();
        self
    }

    /// Sets what the token is for. The default is no description.
    pub fn with_description<'a>(mut self, description: impl Into<Option<&'a str>>) -> Self {
        self.cold_mut().description = description.into().map(Box::from);
        self
    }

    /// Sets whom the token acts for. The default is no subject.
    pub fn with_subject<'a>(mut self, subject: impl Into<Option<&'a str>>) -> Self {
        self.attributes_mut().subject = subject.into().map(Box::from);
        self
    }

    /// Sets the owner, who manages the token. The default is no owner. See
    /// [`NewToken::with_owner`](crate::lifecycle::NewToken::with_owner).
    pub fn with_owner<'a>(mut self, owner: impl Into<Option<&'a str>>) -> Self {
        self.cold_mut().owner = owner.into().map(Box::from);
        self
    }

    /// Replaces the roles. See [`Roles`] for what a name is.
    pub fn with_roles<S: AsRef<str>>(mut self, roles: impl IntoIterator<Item = S>) -> Self {
        self.inner_mut().roles = roles.into_iter().collect();
        self
    }

    /// Replaces the scopes. See [`Scopes`] for what a scope is.
    pub fn with_scopes<S: AsRef<str>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.inner_mut().scopes = scopes.into_iter().collect();
        self
    }

    /// Adds a label, or replaces the one with this key.
    pub fn with_label(mut self, key: impl Into<Box<str>>, value: impl Into<Box<str>>) -> Self {
        let labels = &mut self.attributes_mut().labels;
        labels.insert(key.into(), value.into());
        self
    }

    /// Removes all labels.
    pub fn without_labels(mut self) -> Self {
        self.attributes_mut().labels.clear();
        self
    }

    /// Sets the time, to the millisecond, from which the token is expired. The default is no
    /// expiry.
    pub fn with_expires_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.inner_mut().expires_at = time.into().map(UnixMillis::from);
        self
    }

    /// Sets the time, to the millisecond, from which the token is valid. The default is no start.
    pub fn with_not_before(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        let start = time.into().map(UnixMillis::from);
        self.inner_mut().has_start = start.is_some();
        self.cold_mut().not_before = start;
        self
    }

    /// Sets the state.
    pub fn with_state(mut self, state: TokenState) -> Self {
        self.inner_mut().state = state;
        self
    }

    /// Sets the digest of the secret.
    pub fn with_digest(mut self, digest: TokenDigest) -> Self {
        self.inner_mut().digest = digest;
        self
    }

    /// Sets the digest of the previous secret, and the time, to the millisecond, from which it is
    /// rejected. The default is no previous secret.
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

    /// Sets when the token was created.
    pub fn with_created_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.cold_mut().created_at = time.into().map(UnixMillis::from);
        self
    }

    /// Sets who created the token: the [name](crate::lifecycle::Actor::name) of the actor.
    pub fn with_created_by<'a>(mut self, actor: impl Into<Option<&'a str>>) -> Self {
        self.cold_mut().created_by = actor.into().map(Box::from);
        self
    }

    /// Sets when the record was last changed. Uses do not count.
    pub fn with_updated_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.cold_mut().updated_at = time.into().map(UnixMillis::from);
        self
    }

    /// Sets when the secret was last replaced.
    pub fn with_rotated_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.cold_mut().rotated_at = time.into().map(UnixMillis::from);
        self
    }

    /// Sets when the token was last used.
    pub fn with_last_used_at(mut self, time: impl Into<Option<SystemTime>>) -> Self {
        self.cold_mut().last_used_at = time.into().map(UnixMillis::from);
        self
    }

    /// Sets the number of changes, which a [registry](crate::registry::TokenRegistry) compares
    /// before it replaces the record.
    pub fn with_revision(mut self, revision: u64) -> Self {
        self.cold_mut().revision = revision;
        self
    }

    /// Sets the token's redacted text, such as `svctok-7Hq2mX9bTe_***`.
    pub fn with_hint<'a>(mut self, hint: impl Into<Option<&'a str>>) -> Self {
        self.cold_mut().hint = hint.into().map(Box::from);
        self
    }

    /// Marks the record as older than its store normally returns.
    #[cfg(feature = "introspection")]
    pub(crate) fn into_stale(mut self) -> Self {
        self.inner_mut().is_stale = true;
        self
    }

    /// Returns whether the other record is a clone of this one.
    #[cfg(feature = "api")]
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns the public id.
    pub fn id(&self) -> TokenId {
        self.0.id
    }

    /// Returns the digest of the secret.
    pub fn digest(&self) -> &TokenDigest {
        &self.0.digest
    }

    /// Returns the name, which may be empty.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns whom the token acts for.
    pub fn subject(&self) -> Option<&str> {
        self.0.attributes.as_ref()?.subject.as_deref()
    }

    /// Returns the owner, who manages the token.
    pub fn owner(&self) -> Option<&str> {
        self.cold()?.owner.as_deref()
    }

    /// Returns the roles.
    pub fn roles(&self) -> &Roles {
        &self.0.roles
    }

    /// Returns the scopes.
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// Returns the labels, by key.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.0.attributes.iter().flat_map(|it| &it.labels);
        labels.map(|(key, value)| (&**key, &**value))
    }

    /// Returns when the token expires, if it does.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expiry().map(SystemTime::from)
    }

    /// Returns when the token becomes valid, if that is set.
    pub fn not_before(&self) -> Option<SystemTime> {
        self.start().map(SystemTime::from)
    }

    /// Returns the state.
    pub fn state(&self) -> TokenState {
        self.0.state
    }

    /// Returns what the token is for.
    pub fn description(&self) -> Option<&str> {
        self.cold()?.description.as_deref()
    }

    /// Returns when the token was created, if that is known.
    pub fn created_at(&self) -> Option<SystemTime> {
        self.cold()?.created_at.map(SystemTime::from)
    }

    /// Returns who created the token, if that is known. A [change of the
    /// owner](crate::ServiceTokens::update) removes it.
    pub fn created_by(&self) -> Option<&str> {
        self.cold()?.created_by.as_deref()
    }

    /// Returns when the record was last changed, if that is known.
    pub fn updated_at(&self) -> Option<SystemTime> {
        self.cold()?.updated_at.map(SystemTime::from)
    }

    /// Returns when the secret was last replaced, if ever.
    pub fn rotated_at(&self) -> Option<SystemTime> {
        self.cold()?.rotated_at.map(SystemTime::from)
    }

    /// Returns when the token was last used, if ever. It lags by the flush interval of
    /// [`LastUsed`](crate::registry::LastUsed).
    pub fn last_used_at(&self) -> Option<SystemTime> {
        self.cold()?.last_used_at.map(SystemTime::from)
    }

    /// Returns the digest of the previous secret, even after its grace period.
    pub fn previous_digest(&self) -> Option<&TokenDigest> {
        Some(&self.cold()?.previous.as_ref()?.digest)
    }

    /// Returns when the previous secret stops working, or stopped.
    pub fn grace_ends_at(&self) -> Option<SystemTime> {
        self.previous().map(|previous| previous.until.into())
    }

    /// Returns how often the record was changed.
    pub fn revision(&self) -> u64 {
        self.cold().map_or(0, |cold| cold.revision)
    }

    /// Returns the token's redacted text, if its format has one.
    pub fn hint(&self) -> Option<&str> {
        self.cold()?.hint.as_deref()
    }

    /// Returns the digest of the secret, and the one from before the last rotation.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &TokenDigest> {
        [self.digest()].into_iter().chain(self.previous_digest())
    }

    #[inline]
    pub(crate) fn expiry(&self) -> Option<UnixMillis> {
        self.0.expires_at
    }

    #[inline]
    pub(crate) fn start(&self) -> Option<UnixMillis> {
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

    /// Returns the value of a label.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        let labels = &self.0.attributes.as_ref()?.labels;
        labels.get(key).map(|value| &**value)
    }

    fn is_stale(&self) -> bool {
        self.0.is_stale
    }

    fn cold(&self) -> Option<&Cold> {
        self.0.cold.as_deref()
    }

    fn attributes_mut(&mut self) -> &mut Attributes {
        self.inner_mut().attributes.get_or_insert_default()
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
