//! The authenticated caller of a request.
//!
//! [`ServiceTokenLayer`](crate::ServiceTokenLayer) inserts a [`Principal`] into the extensions of
//! every accepted request. [`Roles`] and [`Scopes`] are what the caller may do; empty ones allow
//! nothing.

mod names;
mod requirement;
mod roles;
mod scopes;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

pub use self::requirement::Requirement;
pub use self::roles::Roles;
pub use self::scopes::Scopes;
use crate::clock::Timestamp;
use crate::digest::TokenDigest;
use crate::token::TokenId;

/// The caller of a request, as its token's record describes it.
///
/// Cheap to clone: one [`Arc`], shared with the record. There is no public constructor: a
/// `Principal` exists only after a [verdict](crate::store::verdict).
#[derive(Clone)]
pub struct Principal {
    record: Arc<dyn HasIdentity>,
    uses_previous_secret: bool,
    is_stale: bool,
}

impl Principal {
    pub(crate) fn new(
        record: Arc<dyn HasIdentity>,
        uses_previous_secret: bool,
        is_stale: bool,
    ) -> Self {
        Self {
            record,
            uses_previous_secret,
            is_stale,
        }
    }

    /// Returns whether the record is older than its store normally returns, because the store's
    /// source did not respond. Only stores that are configured so return such records, as by
    /// `IntrospectionBuilder::with_stale_if_error`.
    pub fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Returns whether the request presented the previous secret, which works until its grace
    /// period ends.
    pub fn uses_previous_secret(&self) -> bool {
        self.uses_previous_secret
    }

    /// Returns the digest of the secret that the request presented.
    pub(crate) fn presented_digest(&self) -> TokenDigest {
        self.record.presented_digest(self.uses_previous_secret)
    }

    /// Returns the public id of the token.
    pub fn id(&self) -> TokenId {
        self.record.identity().id
    }

    /// Returns the name of the token, which may be empty.
    pub fn name(&self) -> &str {
        &self.record.identity().name
    }

    /// Returns whom the token acts for, if that is not the token itself.
    pub fn subject(&self) -> Option<&str> {
        self.record.identity().subject()
    }

    /// Returns the roles of the token.
    pub fn roles(&self) -> &Roles {
        &self.record.identity().roles
    }

    /// Returns the scopes of the token.
    pub fn scopes(&self) -> &Scopes {
        &self.record.identity().scopes
    }

    /// Returns when the token expires, if it does.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.record.identity().expires_at.map(SystemTime::from)
    }

    /// Returns the value of a label, such as `workspace` or `team`.
    pub fn label(&self, key: &str) -> Option<&str> {
        let labels = &self.record.identity().cold.as_ref()?.labels;
        labels.get(key).map(|value| &**value)
    }

    /// Returns all labels, by key.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.record.identity().labels()
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.identity().fmt(f, "Principal")
    }
}

/// A record that a [`Principal`] shares, so that accepting a request clones one `Arc` and copies
/// nothing.
pub(crate) trait HasIdentity: Send + Sync + 'static {
    fn identity(&self) -> &Identity;

    /// Returns the current digest, or the one from before the last rotation.
    fn presented_digest(&self, is_previous: bool) -> TokenDigest;
}

/// The part of a record that handlers read.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) id: TokenId,
    pub(crate) name: Box<str>,
    pub(crate) roles: Roles,
    pub(crate) scopes: Scopes,
    pub(crate) cold: Option<Box<Cold>>,
}

/// Fields that most tokens lack, boxed so that those stay small.
#[derive(Clone, Default)]
pub(crate) struct Cold {
    pub(crate) subject: Option<Box<str>>,
    pub(crate) labels: BTreeMap<Box<str>, Box<str>>,
}

impl Identity {
    pub(crate) fn new(id: TokenId) -> Self {
        Self {
            expires_at: None,
            id,
            name: Box::default(),
            roles: Roles::default(),
            scopes: Scopes::default(),
            cold: None,
        }
    }

    pub(crate) fn subject(&self) -> Option<&str> {
        self.cold.as_ref()?.subject.as_deref()
    }

    pub(crate) fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.cold.iter().flat_map(|cold| &cold.labels);
        labels.map(|(key, value)| (&**key, &**value))
    }

    pub(crate) fn cold_mut(&mut self) -> &mut Cold {
        self.cold.get_or_insert_default()
    }

    pub(crate) fn fmt(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        f.debug_struct(name)
            .field("id", &self.id)
            .field("name", &self.name)
            .field("subject", &self.subject())
            .field("roles", &self.roles)
            .field("scopes", &self.scopes)
            .field("expires_at", &self.expires_at.map(SystemTime::from))
            .field("labels", &self.labels().collect::<BTreeMap<_, _>>())
            .finish()
    }
}
