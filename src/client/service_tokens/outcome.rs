use std::fmt;
use std::time::Duration;

use crate::lifecycle::TokenInfo;
use crate::registry::Cursor;
use crate::token::PresentedToken;

/// A token whose secret was just made, by creation or rotation: the only moment at which it is
/// known.
///
/// The secret is wiped from memory when this is dropped, as far as this crate's copies go. `Debug`
/// does not show it.
#[must_use = "the secret is shown once"]
pub struct IssuedTokenInfo {
    pub(super) secret: PresentedToken<'static>,
    pub(super) token: TokenInfo,
    pub(super) effective_within: Duration,
}

impl IssuedTokenInfo {
    /// The secret, to be shown once.
    pub fn expose_secret(&self) -> &str {
        self.secret.expose_secret()
    }

    /// What is known about the token.
    pub fn token(&self) -> &TokenInfo {
        &self.token
    }

    /// After how long, at the latest, every node knows, in whole seconds. [`Duration::MAX`] if the
    /// server did not say.
    pub fn effective_within(&self) -> Duration {
        self.effective_within
    }
}

impl fmt::Debug for IssuedTokenInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedTokenInfo")
            .field("token", &self.token)
            .field("effective_within", &self.effective_within)
            .finish_non_exhaustive()
    }
}

/// A token after a change.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChangedTokenInfo {
    /// What is known about it now.
    pub token: TokenInfo,
    /// After how long, at the latest, the change is seen by every request on every node, in whole
    /// seconds. [`Duration::MAX`] if the server did not say.
    pub effective_within: Duration,
}

/// A token was revoked. The server says no more of it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Revocation {
    /// After how long, at the latest, every request on every node is refused, in whole seconds.
    /// [`Duration::MAX`] if the server did not say.
    pub effective_within: Duration,
}

/// One page of a listing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenInfoPage {
    /// The tokens, the oldest first, or by the time that the filter speaks of. Their `revision` is
    /// not told.
    pub tokens: Vec<TokenInfo>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}
