//! Who is calling: what a handler learns about the token of a request.
//!
//! [`ServiceTokenLayer`](crate::ServiceTokenLayer) puts a [`Principal`] into the extensions of every request it lets
//! through. [`Roles`] and [`Scopes`] say what the caller may do; empty means nothing.

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

    /// Whether what is told here is older than its store would normally tell, because the store's
    /// source did not answer. Only where a store was set up for that, as by
    /// `IntrospectionBuilder::with_stale_if_error`.
    pub fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Whether the request bore the secret from before the last rotation, which works until its
    /// grace ends.
    pub fn uses_previous_secret(&self) -> bool {
        self.uses_previous_secret
    }

    /// The digest of the secret that the request presented.
    pub(crate) fn presented_digest(&self) -> TokenDigest {
        self.record.presented_digest(self.uses_previous_secret)
    }

    /// The public id of the token.
    pub fn id(&self) -> TokenId {
        self.record.identity().id
    }

    /// The name the token was given; empty if none.
    pub fn name(&self) -> &str {
        &self.record.identity().name
    }

    /// Whom the token acts for, where that is not the token itself.
    pub fn subject(&self) -> Option<&str> {
        self.record.identity().subject()
    }

    /// The roles of the token.
    pub fn roles(&self) -> &Roles {
        &self.record.identity().roles
    }

    /// The scopes of the token.
    pub fn scopes(&self) -> &Scopes {
        &self.record.identity().scopes
    }

    /// When the token stops working, if ever.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.record.identity().expires_at.map(SystemTime::from)
    }

    /// The value of a label, such as `workspace` or `team`.
    pub fn label(&self, key: &str) -> Option<&str> {
        let labels = &self.record.identity().cold.as_ref()?.labels;
        labels.get(key).map(|value| &**value)
    }

    /// All labels, by key.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.record.identity().labels()
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.identity().fmt(f, "Principal")
    }
}

/// A record that a [`Principal`] can be a view of, so that accepting a request counts one
/// reference and copies nothing.
pub(crate) trait HasIdentity: Send + Sync + 'static {
    fn identity(&self) -> &Identity;

    /// The current digest, or the one from before the last rotation.
    fn presented_digest(&self, is_previous: bool) -> TokenDigest;
}

/// The part of a record that a handler may see.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) id: TokenId,
    pub(crate) name: Box<str>,
    pub(crate) roles: Roles,
    pub(crate) scopes: Scopes,
    pub(crate) cold: Option<Box<Cold>>,
}

/// What most tokens do not have, kept apart so that they do not pay for it.
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
