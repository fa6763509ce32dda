use std::sync::Arc;
use std::time::Duration;

use super::breaker::Breaker;
use super::cache::ResponseCache;
use super::client::Client;
use super::lookups::Lookups;
use super::rules::Rules;
use crate::clock::Clock;
use crate::digest::DigestKey;
use crate::store::Credential;
use crate::store::key::Key;
use crate::token::{PresentedToken, TokenFormat};

/// What all clones of a store share, and each running call.
pub(super) struct Core {
    pub(super) client: Client,
    pub(super) rules: Rules,
    pub(super) precheck: TokenPrecheck,
    pub(super) settings: Settings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) keys: DigestKey,
    pub(super) cache: ResponseCache,
    pub(super) lookups: Lookups,
    pub(super) breaker: Arc<Breaker>,
}

/// For how long things are remembered and waited for.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) ttl: Duration,
    pub(super) negative_ttl: Duration,
    pub(super) stale_if_error: Duration,
    pub(super) timeout: Duration,
}

type TokenPredicate = Arc<dyn Fn(&PresentedToken<'_>) -> bool + Send + Sync>;

/// Which tokens the server is asked about.
#[derive(Clone)]
pub(super) struct TokenPrecheck {
    pub(super) format: TokenFormat,
    pub(super) max_length: usize,
    pub(super) allows_any_visible_ascii: bool,
    pub(super) filter: Option<TokenPredicate>,
}

impl Core {
    /// Under what a credential is remembered: nothing that could be guessed from a token without
    /// the secret of this process.
    pub(super) fn key(&self, credential: &Credential<'_>) -> Key {
        Key::from(&self.keys.hash(credential.digest()))
    }
}

impl Settings {
    /// Whether nothing is remembered at all.
    pub(super) fn is_cache_disabled(&self) -> bool {
        self.ttl.is_zero()
    }
}

impl TokenPrecheck {
    pub(super) fn admits(&self, token: &PresentedToken<'_>) -> bool {
        let text = token.expose_secret();
        text.len() <= self.max_length
            && (self.allows_any_visible_ascii || is_b64token(text))
            && !self.format.is_damaged(token)
            && self.filter.as_ref().is_none_or(|admits| admits(token))
    }
}

/// The characters of a bearer token, and at its end any number of `=` (RFC 6750 §2.1).
fn is_b64token(text: &str) -> bool {
    let token = text.trim_end_matches('=').as_bytes();
    let is_good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    !token.is_empty() && token.iter().all(is_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b64token_matches_rfc_6750() {
        for good in ["a", "aZ09-._~+/", "a=", "a==", "eyJ.e30.x"] {
            assert!(is_b64token(good), "{good}");
        }
        for bad in [
            "", "=", "==", "a=b", "a b", "a&b", "a\"", "a,b", "a%20", "é",
        ] {
            assert!(!is_b64token(bad), "{bad}");
        }
    }
}
