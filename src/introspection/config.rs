use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::client_auth::ClientAuth;
use super::rules::{CachedToken, Rules};
use crate::single_flight::{OnInvalidation, Policy};
use crate::token::{PresentedToken, TokenFormat};
use crate::transport::{PlainHttp, Transport};

/// The settings of a store.
pub(super) struct Config {
    pub(super) auth: ClientAuth,
    pub(super) rules: Rules,
    pub(super) format: TokenFormat,
    pub(super) max_token_length: usize,
    pub(super) allows_any_visible_ascii: bool,
    pub(super) token_filter: Option<TokenPredicate>,
    pub(super) token_type_hint: Option<String>,
    /// Its timeout is for a call with its retry, and for each request.
    pub(super) policy: Policy<CachedToken>,
    pub(super) stale_if_error: Duration,
    pub(super) breaker_threshold: u32,
    pub(super) connect_timeout: Duration,
    pub(super) http: PlainHttp,
    pub(super) roots: Option<Vec<u8>>,
    pub(super) transport: Option<Transport>,
}

type TokenPredicate = Arc<dyn Fn(&PresentedToken<'_>) -> bool + Send + Sync>;

impl Config {
    pub(super) fn new(auth: ClientAuth) -> Self {
        Self {
            auth,
            rules: Rules::default(),
            format: TokenFormat::default(),
            max_token_length: 4_096,
            allows_any_visible_ascii: false,
            token_filter: None,
            token_type_hint: None,
            policy: Policy {
                max_weight: Some(16 << 20),
                weigh: CachedToken::weight,
                is_current: CachedToken::is_current,
                permit_timeout: Duration::from_millis(500),
                timeout: Duration::from_secs(3),
                on_invalidation: OnInvalidation::Detach,
                ..Policy::default()
            },
            stale_if_error: Duration::ZERO,
            breaker_threshold: 5,
            connect_timeout: Duration::from_secs(1),
            http: PlainHttp::Deny,
            roots: None,
            transport: None,
        }
    }

    /// Returns whether the server is called for this token.
    pub(super) fn admits(&self, token: &PresentedToken<'_>) -> bool {
        token.expose_secret().len() <= self.max_token_length
            && (self.allows_any_visible_ascii || token.is_b64token())
            && !self.format.is_damaged(token)
            && self
                .token_filter
                .as_ref()
                .is_none_or(|admits| admits(token))
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("auth", &self.auth)
            .field("audience", &self.rules.audience)
            .field("issuer", &self.rules.issuer)
            .field("ttl", &self.policy.ttl)
            .field("negative_ttl", &self.policy.negative_ttl)
            .field("stale_if_error", &self.stale_if_error)
            .finish_non_exhaustive()
    }
}
