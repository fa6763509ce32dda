use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::breaker::{Breaker, BreakerState};
use super::client::Client;
use super::config::Config;
use super::error::{IntrospectionError, IntrospectionErrorKind};
use super::lookup::{self, IntrospectionLookups, LookupOutcome, LookupSource, SharedRetry};
use super::metrics::{self, CallMetrics};
use super::rules::CachedToken;
use crate::single_flight::{Admission, CacheKey, HitCounters};
use crate::store::{Cached, Credential, StoreError, TokenRecord, TokenStore};

/// How often a request looks a token up again because it was invalidated meanwhile.
const MAX_ATTEMPTS: usize = 8;

type LookupResult = Result<Option<TokenRecord>, IntrospectionError>;

/// Checks tokens at an authorization server by OAuth 2.0 token introspection (RFC 7662).
///
/// 1. The server says whether a token is active. The store checks the expiry, start, audience, issuer
///    and type that the server names, also on each cache hit. It rejects a token that is bound to a
///    key (RFC 7800 `cnf`, `DPoP`), because this crate cannot check the proof.
/// 2. An active token is cached for [10 s](super::IntrospectionBuilder::with_ttl), counted from before the
///    call, and never past its expiry. That is the revocation window. An inactive token is cached for
///    [2 s](super::IntrospectionBuilder::with_negative_ttl), in a map of its own, so that junk cannot evict
///    active tokens. Nothing else is cached.
/// 3. Concurrent requests with the same token share one call. It runs in a task of its own, so a
///    request that is dropped cancels nothing. If it fails, the requests that joined it share one
///    retry.
/// 4. A failure of the server is not a failure of the token: the response is 503. The same applies if
///    the server rejects *this client* (401, 403), which is also logged as an error.
/// 5. A call takes at most [3 s](super::IntrospectionBuilder::with_timeout), including one retry. The store
///    retries only if it could not connect, if the connection was closed before the first byte of a
///    response, or if the status was 502, 503 or 504.
/// 6. After [5](super::IntrospectionBuilder::with_breaker_threshold) consecutive failures that no token can
///    cause, a circuit breaker stops calls for 1 to 5 s. Then one probe call tests the server.
/// 7. Tokens that cannot be bearer tokens (RFC 6750 §2.1), are too long, or have this crate's format
///    and a wrong checksum are rejected without a call.
/// 8. `https` is required and certificates are checked. `http` is allowed only for
///    [loopback](super::IntrospectionBuilder::allow_http_to_loopback) addresses. The store does not follow
///    redirects, does not use proxies, and reads at most 64 KiB.
/// 9. Cache keys are digests of tokens. Where an entry is in the cache depends on a secret of this
///    process, and digests are compared in constant time. No key, log or error contains a token. The
///    copies of a running call are zeroed when it ends, except in the buffers of the TLS
///    and HTTP libraries.
///
/// Clones share the cache.
///
/// ```no_run
/// // No server is available to this test; `examples/introspection.rs` runs against a real one.
/// use tower_service_token::ServiceTokenLayer;
/// use tower_service_token::introspection::{ClientAuth, IntrospectionStore};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let secret = String::new();
/// let tokens = IntrospectionStore::builder(ClientAuth::basic("orders", secret))
///     .with_audience("https://orders.example")
///     .with_role_claim("realm_access.roles")
///     .build("https://as.example/introspect")?;
/// let layer = ServiceTokenLayer::new(tokens.clone()).accept_bearer();
/// # Ok(())
/// # }
/// ```
///
/// # From response to record
///
/// | response | record |
/// |---|---|
/// | `jti` | the id, if it is a [`TokenId`](crate::token::TokenId). Otherwise the id is derived from `iss` and `jti`, or without `jti` from the token's digest |
/// | `name`, else `username`, `client_id`, `sub` | the name |
/// | `sub`, else `client_id` | the subject, unless it equals `jti`. A token without both is [rejected](super::IntrospectionBuilder::allow_missing_subject) |
/// | `owner`, a string | the [owner](crate::store::TokenRecord::owner), which confines the token to the tokens of that owner wherever it manages tokens |
/// | `scope` | the scopes. A scope with `*` is a [wildcard](crate::principal::Scopes): if the server lets clients name their own scopes, [map](super::IntrospectionBuilder::with_scope_mapping) them |
/// | [a claim of your choice](super::IntrospectionBuilder::with_role_claim) | the roles |
/// | [a claim of your choice](super::IntrospectionBuilder::with_labels_claim) | the labels |
/// | `exp`, `nbf`, `iat` | the expiry, the start, the creation time: numbers in any JSON notation. A fraction is rounded against the token's holder. The expiry and the start include a leeway of [0 s](super::IntrospectionBuilder::with_expiry_leeway) and [5 s](super::IntrospectionBuilder::with_start_leeway); a token issued later than that in the future is rejected |
///
/// # From response to status
///
/// | server's response | caller's response |
/// |---|---|
/// | 200, active, all rules met | the request is accepted |
/// | 200, not active; or a rule violated; or 400 `unsupported_token_type` | 401 |
/// | 401, 403 | 503; [`Credentials`](IntrospectionErrorKind::Credentials) |
/// | 429, 5xx, no response | 503; [`Transient`](IntrospectionErrorKind::Transient) |
/// | anything else | 503; [`Protocol`](IntrospectionErrorKind::Protocol) |
///
/// # Caveats
///
/// - Calls need a Tokio runtime with timers. Without one they fail as unavailable.
/// - Do not put a [`CachedStore`](crate::store::CachedStore) in front: the TTLs would add up.
/// - The layer accepts tokens of up to 512 bytes. For larger ones, such as JWTs, raise
///   [its limit](crate::ServiceTokenLayer::with_max_token_length) too.
///
/// # Metrics
///
/// With the feature `metrics`:
///
/// | name | label | values |
/// |---|---|---|
/// | `service_token_introspection_requests_total` | `outcome` | `hit`, `negative_hit`, `miss`, `coalesced`, `stale`, `rejected_locally`, `overloaded`, `breaker_open` |
/// | `service_token_introspection_calls_total` | `outcome` | `active`, `inactive`, `unsupported_token`, `credentials`, `protocol`, `transient`, `timed_out`, `lost` (it panicked, or the runtime was shut down) |
/// | `service_token_introspection_claim_violations_total` | `rule` | the rule that an active token violated: `expired`, `not_yet_valid`, `issued_in_the_future`, `audience`, `issuer`, `token_type`, `bound_to_a_key`, `no_subject` |
/// | `service_token_introspection_calls_in_flight` | – | a gauge |
/// | `service_token_introspection_breaker_open` | – | a gauge, 0 or 1 |
#[derive(Clone)]
pub struct IntrospectionStore {
    pub(super) client: Arc<Client>,
    pub(super) lookups: Arc<IntrospectionLookups>,
    pub(super) breaker: Arc<Breaker>,
    pub(super) hits: Arc<HitCounters>,
}

impl IntrospectionStore {
    /// Evicts one token. The result of a running call for it is discarded.
    pub fn invalidate(&self, credential: &Credential<'_>) {
        self.lookups.invalidate([key(credential)]);
    }

    /// Evicts all tokens. The results of running calls are discarded.
    pub fn clear(&self) {
        self.lookups.clear();
    }

    /// Returns the size of the cache and the state of the circuit breaker.
    pub fn status(&self) -> IntrospectionStatus {
        let (active, inactive) = self.lookups.entries.len();
        IntrospectionStatus {
            active,
            inactive,
            in_flight: self.lookups.in_flight(),
            breaker: self.breaker.state_at(self.now()),
        }
    }

    fn now(&self) -> Duration {
        self.client.config.policy.clock.monotonic()
    }

    /// Returns whether the token may be one of the server's. Otherwise it is rejected without a call.
    fn admits(&self, credential: &Credential<'_>) -> bool {
        let admits = self.client.config.admits(credential.token());
        if !admits {
            metrics::request("rejected_locally");
        }
        admits
    }

    /// Returns the record of an active token that meets the rules at this moment.
    fn record(&self, token: &CachedToken) -> Option<TokenRecord> {
        let Config { rules, policy, .. } = &self.client.config;
        match token.check(rules, &*policy.clock)? {
            Ok(record) => Some(record.clone()),
            Err(violation) => {
                metrics::claim_violation(violation);
                None
            }
        }
    }

    /// Calls the server, or waits for a call in progress.
    async fn look_up(&self, key: CacheKey, credential: &Credential<'_>) -> LookupResult {
        let mut retry: Option<SharedRetry> = None;
        for _ in 0..MAX_ATTEMPTS {
            let source = || self.join_or_start(key, credential);
            let (source, is_retry) = match retry.take() {
                None => (source().await?, false),
                Some(retry) => (retry.get_or_try_init(source).await?.clone(), true),
            };
            let (outcome, may_retry) = match source {
                LookupSource::Cached(token) => return Ok(self.record(&token)),
                LookupSource::Started(outcome) => (outcome, false),
                LookupSource::Joined(outcome) => (outcome, !is_retry),
            };
            match outcome.await {
                Ok(LookupOutcome::Found(token)) => return Ok(self.record(&token)),
                Ok(LookupOutcome::Failed(error, next)) if may_retry && error.is_transient() => {
                    retry = Some(next);
                }
                Ok(LookupOutcome::Failed(error, _)) => return Err(error),
                Ok(LookupOutcome::Invalidated) => {}
                Err(_) => {
                    let why = "the call panicked or was aborted";
                    return Err(IntrospectionError::transient(why));
                }
            }
        }
        let why = "the token was invalidated during each of several calls";
        Err(IntrospectionError::transient(why))
    }

    async fn join_or_start(
        &self,
        key: CacheKey,
        credential: &Credential<'_>,
    ) -> Result<LookupSource, IntrospectionError> {
        let (lookup, outcome) = match self.lookups.join_or_start(key).await {
            Admission::Cached(entry) => {
                self.hits.increment(metrics::REQUESTS, entry.kind);
                return Ok(LookupSource::Cached(entry.value));
            }
            Admission::Joined(outcome) => {
                metrics::request("coalesced");
                return Ok(LookupSource::Joined(outcome));
            }
            Admission::AtCapacity => {
                metrics::request("overloaded");
                let why = "too many calls are in progress";
                return Err(IntrospectionError::new(
                    IntrospectionErrorKind::Overloaded,
                    why,
                ));
            }
            Admission::Started(lookup, outcome) => (lookup, outcome),
        };
        match self.breaker.admit(self.now()) {
            Ok(permit) => {
                let (client, credential) = (Arc::clone(&self.client), credential.to_owned());
                let call = lookup::run(client, credential, lookup, permit, CallMetrics::start());
                // `find` has checked that there is a runtime.
                Handle::current().spawn(call);
                Ok(LookupSource::Started(outcome))
            }
            Err(wait) => {
                metrics::request("breaker_open");
                let why = "the circuit breaker is open after too many failures";
                let error = IntrospectionError::new(IntrospectionErrorKind::BreakerOpen, why);
                let error = error.with_retry_after(wait);
                lookup.finish(LookupOutcome::Failed(error.clone(), SharedRetry::default()));
                Err(error)
            }
        }
    }

    /// Returns an expired entry, if that is enabled and the error is an outage.
    fn stale(&self, key: &CacheKey, error: &IntrospectionError) -> Option<TokenRecord> {
        let stale_if_error = self.client.config.stale_if_error;
        let is_outage = matches!(
            error.kind(),
            IntrospectionErrorKind::Transient | IntrospectionErrorKind::BreakerOpen
        );
        if !is_outage || stale_if_error.is_zero() {
            return None;
        }
        let entry = self.lookups.entries.last_positive(key)?;
        if self.now() >= entry.expires_at.saturating_add(stale_if_error) {
            return None;
        }
        let record = self.record(&entry.value)?;
        metrics::stale(error);
        Some(record.into_stale())
    }
}

#[async_trait]
impl TokenStore for IntrospectionStore {
    fn find_cached(&self, credential: &Credential<'_>) -> Cached {
        match self.lookups.get(&key(credential)) {
            Some(entry) => {
                self.hits.increment(metrics::REQUESTS, entry.kind);
                let record = match entry.value {
                    // No cached entry has expired.
                    CachedToken::Valid(record, _) => Some(record),
                    token => self.record(&token),
                };
                record.map_or(Cached::NotFound, Cached::Found)
            }
            None if self.admits(credential) => Cached::Miss,
            None => Cached::NotFound,
        }
    }

    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        if !self.admits(credential) {
            return Ok(None);
        }
        Handle::try_current().map_err(StoreError::unavailable)?;
        let key = key(credential);
        let result = timeout(
            self.client.config.policy.timeout,
            self.look_up(key, credential),
        )
        .await;
        let result = result.unwrap_or_else(|_| Err(IntrospectionError::timed_out()));
        result.or_else(|error| match self.stale(&key, &error) {
            Some(record) => Ok(Some(record)),
            None => Err(error.into()),
        })
    }

    /// Evicts the token and calls the server.
    async fn find_uncached(
        &self,
        credential: &Credential<'_>,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.invalidate(credential);
        self.find(credential).await
    }
}

fn key(credential: &Credential<'_>) -> CacheKey {
    CacheKey::from(credential.digest())
}

impl fmt::Debug for IntrospectionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectionStore")
            .field("endpoint", &self.client.endpoint)
            .field("config", &self.client.config)
            .finish_non_exhaustive()
    }
}

/// The size of the cache of an [`IntrospectionStore`] and the state of its circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IntrospectionStatus {
    /// Cached active tokens, including expired entries.
    pub active: usize,
    /// Cached inactive tokens, including expired entries.
    pub inactive: usize,
    /// Calls in progress.
    pub in_flight: usize,
    /// The state of the circuit breaker.
    pub breaker: BreakerState,
}
