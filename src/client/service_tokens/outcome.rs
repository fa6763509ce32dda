use std::time::{Duration, SystemTime};

use crate::lifecycle::{ChangedToken, IssuedToken};
use crate::registry::Cursor;
use crate::token::PresentedToken;
use crate::wire::TokenInfo;

/// A token with a new secret, after a creation or a rotation.
///
/// This is the only response with the secret. Dropping it zeroes this crate's copies of the secret.
/// `Debug` redacts it.
#[derive(Debug)]
#[must_use = "the secret is shown once"]
pub struct IssuedTokenInfo {
    pub(super) secret: PresentedToken<'static>,
    pub(super) token: TokenInfo,
    pub(super) effective_within: Duration,
}

impl IssuedTokenInfo {
    /// Returns the secret, to show it once.
    pub fn expose_secret(&self) -> &str {
        self.secret.expose_secret()
    }

    /// Returns the public fields of the token.
    pub fn token(&self) -> &TokenInfo {
        &self.token
    }

    /// Returns the time after which every node sees the change, at the latest, in whole seconds.
    /// [`Duration::MAX`] if the server does not send it.
    pub fn effective_within(&self) -> Duration {
        self.effective_within
    }
}

/// The result of [`ServiceTokens`](crate::ServiceTokens), as of now.
impl From<IssuedToken> for IssuedTokenInfo {
    fn from(issued: IssuedToken) -> Self {
        let secret = PresentedToken::new(issued.expose_secret());
        Self {
            secret: secret.expect("a token is visible ASCII").into_owned(),
            token: TokenInfo::new(issued.record(), SystemTime::now()),
            effective_within: issued.effective_within(),
        }
    }
}

/// A token after a change.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChangedTokenInfo {
    /// The public fields of the token.
    pub token: TokenInfo,
    /// The time after which every request on every node sees the change, at the latest, in whole
    /// seconds. [`Duration::MAX`] if the server does not send it.
    pub effective_within: Duration,
}

/// The result of [`ServiceTokens`](crate::ServiceTokens), as of now.
impl From<ChangedToken> for ChangedTokenInfo {
    fn from(changed: ChangedToken) -> Self {
        Self {
            token: TokenInfo::new(&changed.record, SystemTime::now()),
            effective_within: changed.effective_within,
        }
    }
}

/// A token was revoked. The server returns no more about it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Revocation {
    /// The time after which every node rejects the token, at the latest, in whole seconds.
    /// [`Duration::MAX`] if the server does not send it.
    pub effective_within: Duration,
}

/// One page of a listing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenInfoPage {
    /// The tokens, the oldest first, or in the order of the time in the filter. Their `revision` is
    /// unknown.
    pub tokens: Vec<TokenInfo>,
    /// The cursor of the next page, if there is one.
    pub next: Option<Cursor>,
}
