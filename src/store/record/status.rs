use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use super::TokenRecord;
use crate::clock::UnixMillis;
use crate::principal::ADMIN_SCOPE;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::deserialize_text;

/// The stored state of a token. Expiry is evaluated apart from it.
///
/// Exhaustive on purpose: a match must handle every case, and a new one is a breaking change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenState {
    /// The token is valid, within its times.
    #[default]
    Active,
    /// The token is rejected until it is enabled.
    Disabled,
    /// The token is rejected for good.
    Revoked,
}

impl TokenState {
    /// Returns the name of the state: `active`, `disabled` or `revoked`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
        }
    }
}

/// The reported status of a token: its [state](TokenState) combined with its expiry.
///
/// ```
/// use tower_service_token::store::TokenStatus;
///
/// assert_eq!(TokenStatus::Expired.to_string(), "expired");
/// assert_eq!("revoked".parse(), Ok(TokenStatus::Revoked));
/// assert_eq!(serde_json::to_value(TokenStatus::Active)?, "active");
/// # Ok::<_, serde_json::Error>(())
/// ```
///
/// Exhaustive on purpose: a match must handle every case, and a new one is a breaking change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenStatus {
    /// The token is active and has not expired.
    Active,
    /// The token is disabled, expired or not.
    Disabled,
    /// The token is revoked, expired or not.
    Revoked,
    /// The token is active, but has expired.
    Expired,
}

impl TokenStatus {
    /// Returns the name of the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

impl TokenRecord {
    /// Returns the status at this time. If several apply, the most final one is returned, as in the
    /// [verdict](crate::store::verdict). A token that is not valid yet counts as active.
    pub fn status(&self, now: SystemTime) -> TokenStatus {
        match self.state() {
            TokenState::Revoked => TokenStatus::Revoked,
            TokenState::Disabled => TokenStatus::Disabled,
            TokenState::Active => match self.expiry() {
                Some(expiry) if UnixMillis::from(now) >= expiry => TokenStatus::Expired,
                _ => TokenStatus::Active,
            },
        }
    }

    /// Returns whether this token may administer all tokens at `now`: it is active, has started, has
    /// not expired, its scopes allow `service-tokens:admin`, and it has no owner. One with an owner
    /// manages at most the tokens of its owner.
    pub fn may_administer(&self, now: SystemTime) -> bool {
        self.status(now) == TokenStatus::Active
            && self.owner().is_none()
            && self.start().is_none_or(|start| start <= now.into())
            && self.scopes().allow(ADMIN_SCOPE)
    }
}

impl fmt::Display for TokenStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for TokenStatus {
    type Err = ParseTokenStatusError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Active, Self::Disabled, Self::Revoked, Self::Expired]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(ParseTokenStatusError(()))
    }
}

impl Serialize for TokenStatus {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for TokenStatus {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        deserialize_text(from, "the state of a token")
    }
}

/// A text is not a [`TokenStatus`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state of a token is active, disabled, revoked or expired")]
pub struct ParseTokenStatusError(());
