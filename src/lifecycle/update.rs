use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::Expiry;
use crate::store::{TokenRecord, TokenState};

/// What of a token shall change. What is not named stays as it is.
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
    pub(super) name: Option<String>,
    pub(super) description: Patch<String>,
    pub(super) subject: Patch<String>,
    pub(super) roles: Option<Vec<String>>,
    pub(super) scopes: Option<Vec<String>>,
    pub(super) clears_labels: bool,
    pub(super) labels: BTreeMap<String, Option<String>>,
    pub(super) expiry: Option<Expiry>,
    pub(super) not_before: Patch<SystemTime>,
    pub(super) revision: Option<u64>,
    pub(super) state: Option<TokenState>,
}

/// What to do with a field that may be absent.
#[derive(Clone, Debug, Default)]
pub(super) enum Patch<T> {
    #[default]
    Keep,
    Clear,
    Set(T),
}

impl<T> Patch<T> {
    /// The field afterwards.
    pub(super) fn apply(self, known: Option<T>) -> Option<T> {
        match self {
            Self::Keep => known,
            Self::Clear => None,
            Self::Set(value) => Some(value),
        }
    }
}

impl TokenUpdate {
    /// Changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another name.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Another description.
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = Patch::Set(description.into());
        self
    }

    /// No description any more.
    pub fn without_description(mut self) -> Self {
        self.description = Patch::Clear;
        self
    }

    /// Another subject.
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Patch::Set(subject.into());
        self
    }

    /// No subject any more.
    pub fn without_subject(mut self) -> Self {
        self.subject = Patch::Clear;
        self
    }

    /// These roles in place of all it has.
    pub fn with_roles<S: Into<String>>(mut self, roles: impl IntoIterator<Item = S>) -> Self {
        self.roles = Some(roles.into_iter().map(Into::into).collect());
        self
    }

    /// These scopes in place of all it has.
    pub fn with_scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = Some(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// Adds a label, or gives it another value.
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), Some(value.into()));
        self
    }

    /// Removes a label.
    pub fn without_label(mut self, key: impl Into<String>) -> Self {
        self.labels.insert(key.into(), None);
        self
    }

    /// Removes all labels but those added here.
    pub fn without_labels(mut self) -> Self {
        self.clears_labels = true;
        self
    }

    /// Another expiry, or [none](Expiry::NEVER). A duration counts from the update.
    pub fn with_expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = Some(expiry);
        self
    }

    /// Another start.
    pub fn with_not_before(mut self, time: SystemTime) -> Self {
        self.not_before = Patch::Set(time);
        self
    }

    /// Works from now on, as far as the rest allows.
    pub fn without_not_before(mut self) -> Self {
        self.not_before = Patch::Clear;
        self
    }

    /// Changes the token only if it is still at this [revision](TokenRecord::revision). Default:
    /// whatever its revision.
    pub fn if_revision(mut self, revision: u64) -> Self {
        self.revision = Some(revision);
        self
    }

    /// Switches the token on or off in the same change.
    #[cfg(feature = "api")]
    pub(crate) fn with_state(mut self, state: TokenState) -> Self {
        self.state = Some(state);
        self
    }

    pub(super) fn apply_to_labels(&self, record: &TokenRecord) -> BTreeMap<String, String> {
        let kept = record.labels().filter(|_| !self.clears_labels);
        let kept = kept.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut labels: BTreeMap<String, String> = kept.collect();
        for (key, value) in &self.labels {
            match value {
                Some(value) => labels.insert(key.clone(), value.clone()),
                None => labels.remove(key),
            };
        }
        labels
    }
}

/// A token after a change.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChangedToken {
    /// What is known about it now.
    pub record: TokenRecord,
    /// After how long, at the latest, the change is seen by every request on every node: the
    /// longest time that a cache elsewhere may remember what was before.
    pub effective_within: Duration,
}
