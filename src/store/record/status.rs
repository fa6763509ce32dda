use std::fmt;
use std::str::FromStr;

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

/// A token's [state](TokenState) together with its expiry: what people are shown.
///
/// ```
/// use tower_service_token::store::TokenStatus;
///
/// assert_eq!(TokenStatus::Expired.to_string(), "expired");
/// assert_eq!("revoked".parse(), Ok(TokenStatus::Revoked));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenStatus {
    /// It is switched on and has not expired.
    Active,
    /// It is switched off, expired or not.
    Disabled,
    /// It was revoked, expired or not.
    Revoked,
    /// It is switched on, and its time is over.
    Expired,
}

impl TokenStatus {
    /// The status as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
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

/// A text is not a [`TokenStatus`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state of a token is active, disabled, revoked or expired")]
pub struct ParseTokenStatusError(());
