use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use super::TokenRecord;
use crate::clock::date_time;
use crate::digest::TokenDigest;
use crate::principal::{Requirement, Roles, Scopes};
use crate::token::{DisplayId, TokenId};

/// The caller of a request, described by the record of its token.
///
/// Cheap to clone: one [`Arc`](std::sync::Arc), shared with the record. There is no public
/// constructor: only a [verdict](crate::store::verdict) creates a `Principal`.
///
/// serde writes the public fields, with the names and forms of
/// [`TokenInfo`](crate::wire::TokenInfo), the `id` being the [displayed](Self::display_id) one, and
/// reads no `Principal`:
///
/// ```json
/// {
///   "id": "7Hq2mX9bTe", "name": "ci", "subject": null, "owner": null, "roles": ["deployer"],
///   "scopes": [], "expires_at": "2027-01-31T00:00:00Z", "labels": {"team": "web"}
/// }
/// ```
///
/// # Testing
///
/// With the feature `testing`, [`testing::principal`](crate#features) builds a `Principal`, and
/// `testing::authenticated` inserts it, or an [`Identity`](crate::principal::Identity), into a request, for
/// the test of a handler without a token:
///
/// ```
/// # #[cfg(feature = "testing")] {
/// use http::Request;
/// use tower_service_token::{Principal, testing};
///
/// let caller = testing::principal("ci").with_roles(["deployer"]);
/// let request = testing::authenticated(Request::new(()), caller);
/// assert!(request.extensions().get::<Principal>().is_some());
/// # }
/// ```
#[derive(Clone)]
pub struct Principal {
    record: TokenRecord,
    uses_previous_secret: bool,
}

impl Principal {
    #[inline]
    pub(in crate::store) fn new(record: TokenRecord, uses_previous_secret: bool) -> Self {
        Self {
            record,
            uses_previous_secret,
        }
    }

    /// Creates the caller of a test, without a verdict.
    #[cfg(feature = "testing")]
    pub(crate) fn for_test(record: TokenRecord, uses_previous_secret: bool) -> Self {
        Self::new(record, uses_previous_secret)
    }

    /// Returns whether both have one record, and not only equal ones.
    #[cfg(feature = "api")]
    pub(crate) fn has_same_record(&self, other: &Self) -> bool {
        self.record.is_same(&other.record)
    }

    /// Returns whether the record is older than its store normally returns, because the source of the
    /// store did not respond. A store returns such records only if configured to, such as by
    /// `IntrospectionBuilder::with_stale_if_error`.
    pub fn is_stale(&self) -> bool {
        self.record.is_stale()
    }

    /// Returns whether the request presented the previous secret, which is valid until its grace
    /// period ends.
    pub fn uses_previous_secret(&self) -> bool {
        self.uses_previous_secret
    }

    /// Returns the displayed id, if the store set one.
    pub(crate) fn own_display_id(&self) -> Option<&DisplayId> {
        self.record.own_display_id()
    }

    /// Returns the digest of the secret that the request presented.
    pub(crate) fn presented_digest(&self) -> TokenDigest {
        match self.record.previous_digest() {
            Some(previous) if self.uses_previous_secret => *previous,
            _ => *self.record.digest(),
        }
    }

    /// Returns the record of the token.
    #[cfg(feature = "tokio")]
    pub(crate) fn record(&self) -> &TokenRecord {
        &self.record
    }

    /// Returns the public id of the token.
    pub fn id(&self) -> TokenId {
        self.record.id()
    }

    /// Returns the id that responses, logs and audit events show: the one that the store set, such as the
    /// UUID of a row in a table of your own, or else the [id](Self::id). It allocates nothing.
    pub fn display_id(&self) -> DisplayId {
        self.record.display_id()
    }

    /// Returns the value of this type that the store [added](TokenRecord::with_data) to the record. It
    /// allocates nothing.
    pub fn data<T: Any>(&self) -> Option<&T> {
        self.record.data()
    }

    /// Returns the name of the token, which may be empty.
    pub fn name(&self) -> &str {
        self.record.name()
    }

    /// Returns whom the token acts for, if it does not act for itself.
    pub fn subject(&self) -> Option<&str> {
        self.record.subject()
    }

    /// Returns the owner of the token, who manages it.
    pub fn owner(&self) -> Option<&str> {
        self.record.owner()
    }

    /// Returns the roles of the token.
    pub fn roles(&self) -> &Roles {
        self.record.roles()
    }

    /// Returns the scopes of the token.
    pub fn scopes(&self) -> &Scopes {
        self.record.scopes()
    }

    /// Returns when the token expires, if it does.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.record.expires_at()
    }

    /// Returns the value of a label, such as `workspace` or `team`.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.record.label(key)
    }

    /// Returns all labels, by key.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.record.labels()
    }
}

#[cfg(feature = "testing")]
impl TokenRecord {
    /// Sets the fields that no builder method sets.
    pub(crate) fn with_test_fields(mut self, id: TokenId, is_stale: bool) -> Self {
        let inner = self.inner_mut();
        (inner.id, inner.is_stale) = (id, is_stale);
        self
    }
}

impl Requirement {
    /// Returns whether `principal` meets the requirement.
    pub fn is_met_by(&self, principal: &Principal) -> bool {
        self.is_met_by_rights(principal.roles(), principal.scopes())
    }
}

#[derive(Serialize)]
struct PublicFields<'p> {
    id: DisplayId,
    name: &'p str,
    subject: Option<&'p str>,
    owner: Option<&'p str>,
    roles: &'p Roles,
    scopes: &'p Scopes,
    expires_at: Option<String>,
    labels: BTreeMap<&'p str, &'p str>,
}

impl Serialize for Principal {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let fields = PublicFields {
            id: self.display_id(),
            name: self.name(),
            subject: self.subject(),
            owner: self.owner(),
            roles: self.roles(),
            scopes: self.scopes(),
            expires_at: self.expires_at().and_then(date_time::format),
            labels: self.labels().collect(),
        };
        fields.serialize(to)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt_as("Principal", f)
    }
}
