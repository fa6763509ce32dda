use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Expiry;
use crate::store::{TokenRecord, TokenState};

/// A partial update of a token. Unset fields stay as they are.
///
/// ```
/// use tower_service_token::lifecycle::{Expiry, TokenUpdate};
///
/// let update = TokenUpdate::new()
///     .with_name("weekly build")
///     .without_description()
///     .with_expiry(Expiry::NEVER);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TokenUpdate {
    pub(crate) name: Option<String>,
    pub(crate) description: Patch<String>,
    pub(crate) subject: Patch<String>,
    pub(crate) owner: Patch<String>,
    pub(crate) roles: Option<Vec<String>>,
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) clears_labels: bool,
    pub(crate) labels: BTreeMap<String, Option<String>>,
    pub(crate) expiry: Option<Expiry>,
    pub(crate) not_before: Patch<SystemTime>,
    pub(crate) revision: Option<u64>,
    pub(crate) state: Option<TokenState>,
}

/// The change of an optional field.
///
/// In JSON, it is a member of a merge patch (RFC 7396): an absent member keeps the value, `null`
/// clears it.
/// Such a member needs `#[serde(default, skip_serializing_if = "Patch::is_keep")]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Patch<T> {
    #[default]
    Keep,
    Clear,
    Set(T),
}

impl<T> Patch<T> {
    /// Returns the field after the change.
    pub(super) fn apply(self, current: Option<T>) -> Option<T> {
        match self {
            Self::Keep => current,
            Self::Clear => None,
            Self::Set(value) => Some(value),
        }
    }

    pub(crate) fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

impl<T: Serialize> Serialize for Patch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep | Self::Clear => serializer.serialize_none(),
            Self::Set(value) => serializer.serialize_some(value),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Option::deserialize(deserializer)?;
        Ok(value.map_or(Self::Clear, Self::Set))
    }
}

impl TokenUpdate {
    /// Creates an update that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the description.
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = Patch::Set(description.into());
        self
    }

    /// Removes the description.
    pub fn without_description(mut self) -> Self {
        self.description = Patch::Clear;
        self
    }

    /// Sets the subject.
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Patch::Set(subject.into());
        self
    }

    /// Removes the subject.
    pub fn without_subject(mut self) -> Self {
        self.subject = Patch::Clear;
        self
    }

    /// [Transfers](crate::ServiceTokens::update) the token to this owner. An actor that is
    /// [confined](crate::lifecycle::Actor::confined_to) to an owner cannot do that, and a holder needs
    /// the scope `service-tokens:admin`.
    pub fn with_owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Patch::Set(owner.into());
        self
    }

    /// Removes the owner, so that the token is [no longer confined](crate::lifecycle::Actor::confined_to)
    /// to the tokens of one.
    pub fn without_owner(mut self) -> Self {
        self.owner = Patch::Clear;
        self
    }

    /// Replaces the roles.
    pub fn with_roles<S: Into<String>>(mut self, roles: impl IntoIterator<Item = S>) -> Self {
        self.roles = Some(roles.into_iter().map(Into::into).collect());
        self
    }

    /// Replaces the scopes.
    pub fn with_scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = Some(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// Adds a label, or replaces its value.
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), Some(value.into()));
        self
    }

    /// Removes a label.
    pub fn without_label(mut self, key: impl Into<String>) -> Self {
        self.labels.insert(key.into(), None);
        self
    }

    /// Removes all labels except those that the update adds.
    pub fn without_labels(mut self) -> Self {
        self.clears_labels = true;
        self
    }

    /// Sets the expiry, or removes it with [`Expiry::NEVER`]. A duration counts from the update.
    pub fn with_expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = Some(expiry);
        self
    }

    /// Sets when the token becomes valid.
    pub fn with_not_before(mut self, time: SystemTime) -> Self {
        self.not_before = Patch::Set(time);
        self
    }

    /// Removes the start, so that the token is valid immediately.
    pub fn without_not_before(mut self) -> Self {
        self.not_before = Patch::Clear;
        self
    }

    /// Requires that the token is at this [revision](TokenRecord::revision). By default, any revision
    /// is updated.
    pub fn if_revision(mut self, revision: u64) -> Self {
        self.revision = Some(revision);
        self
    }
}

/// A changed token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChangedToken {
    /// The record after the change.
    pub record: TokenRecord,
    /// The longest time until every request on every node sees the change, because a cache may serve
    /// the previous record.
    pub effective_within: Duration,
}
