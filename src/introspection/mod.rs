//! Tokens of an OAuth 2.0 authorization server, checked by token introspection (RFC 7662).

mod assertion;
mod breaker;
mod builder;
mod claims;
mod client;
mod client_auth;
mod config_error;
mod core;
mod discovery;
mod error;
mod excerpt;
mod lookup;
mod lookups;
mod json;
mod cache;
mod metrics;
mod response;
mod claims_parser;
mod request;
mod rules;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

pub use self::assertion::PrivateKeyJwt;
pub use self::breaker::BreakerState;
pub use self::builder::IntrospectionBuilder;
use self::cache::{ActiveEntry, CacheEntry};
pub use self::client_auth::ClientAuth;
pub use self::config_error::IntrospectionConfigError;
use self::core::Core;
pub use self::discovery::{DiscoveryError, DiscoveryErrorKind};
pub use self::error::{IntrospectionError, IntrospectionErrorKind};
use self::lookups::{Admission, LookupResponse, SharedResult, SharedRetry};
use crate::store::key::Key;
use crate::store::{Cached, Credential, StoreError, TokenRecord, TokenStore};

/// How long a request waits until it may begin a call.
const PERMIT_TIMEOUT: Duration = Duration::from_millis(500);

/// How often a request looks when what it waited for is asked to be forgotten meanwhile.
const MAX_ATTEMPTS: usize = 8;

type LookupResult = Result<Option<TokenRecord>, IntrospectionError>;

/// Checks tokens at an authorization server by OAuth 2.0 token introspection (RFC 7662).
///
/// 1. The server says whether a token is active; the expiry, start, audience, issuer and type that
///    it names are held here, at each use of a remembered answer too. A token that is bound to a
///    key (RFC 7800 `cnf`, `DPoP`) is refused: this crate cannot check the proof.
/// 2. An active token is remembered for [10 s](IntrospectionBuilder::with_ttl), counted from
///    before the call, and never past its expiry: that is the revocation window. An inactive one
///    for [2 s](IntrospectionBuilder::with_negative_ttl), and elsewhere, so that junk cannot drive
///    out good tokens. Nothing else is remembered.
/// 3. Requests with the same token share one call. It runs in a task of its own: a request that is
///    dropped cancels nothing. When it fails, those who joined it share one more.
/// 4. The server's failure is never the token's: the caller gets 503. So it does when the server
///    rejects *this client* (401, 403), which is logged as an error.
/// 5. A call takes at most [3 s](IntrospectionBuilder::with_timeout), one retry included, which is
///    made only where no connection could be had, it was closed before any byte of an answer, or
///    the answer was 502, 503 or 504.
/// 6. After [5](IntrospectionBuilder::with_breaker_threshold) failures in a row that no token can
///    cause, the server is not asked for 1 to 5 s; then one call finds out whether it is back.
/// 7. Tokens that cannot be bearer tokens (RFC 6750 §2.1), are too long, or are of our own form
///    with a bad checksum are refused without a call.
/// 8. `https` is required, and certificates are checked; `http` is for
///    [loopback](IntrospectionBuilder::allow_http_to_loopback) alone. Redirects are not followed,
///    proxies not used, and no more than 64 KiB read.
/// 9. Keys in memory are hashes under a secret of this process. Tokens stand in no key, log or
///    error; a running call's copies are zeroed when it ends, but for what the TLS and HTTP
///    libraries buffer.
///
/// Clones share all of it.
///
/// ```no_run
/// // No server to ask when this is tested; `examples/introspection.rs` is, with a real one.
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
/// # What becomes of the answer
///
/// | answer | record |
/// |---|---|
/// | `jti` | the id, if it is one of ours; else an id is derived from `iss` and `jti`, or where there is no `jti` from the token's digest |
/// | `name`, else `username`, `client_id`, `sub` | the name |
/// | `sub`, else `client_id` | the subject, unless it is the token's own `jti`. A token with neither is [refused](IntrospectionBuilder::allow_missing_subject) |
/// | `scope` | the scopes. A scope with `*` counts as a [wildcard](crate::principal::Scopes): where the server lets clients name their own scopes, [map](IntrospectionBuilder::with_scope_mapping) them |
/// | [a claim you name](IntrospectionBuilder::with_role_claim) | the roles |
/// | [a claim you name](IntrospectionBuilder::with_labels_claim) | the labels |
/// | `exp`, `nbf`, `iat` | the expiry, the start, the creation |
///
/// # What callers get
///
/// | server's answer | caller gets |
/// |---|---|
/// | 200, active, all rules hold | through |
/// | 200, not active; or a rule is broken; or 400 `unsupported_token_type` | 401 |
/// | 401, 403 | 503; [`Credentials`](IntrospectionErrorKind::Credentials) |
/// | 429, 5xx, no answer | 503; [`Transient`](IntrospectionErrorKind::Transient) |
/// | anything else | 503; [`Protocol`](IntrospectionErrorKind::Protocol) |
///
/// # Caveats
///
/// - Calls need a Tokio runtime, with timers: without one they fail as unavailable.
/// - Put no [`CachedStore`](crate::store::CachedStore) before it: the times would add up.
/// - The layer takes tokens of up to 512 bytes. For larger ones, as JWTs are, raise
///   [its limit](crate::ServiceTokenLayer::with_max_token_length) too.
///
/// # Metrics
///
/// With the feature `metrics`:
///
/// | name | label | values |
/// |---|---|---|
/// | `service_token_introspection_requests_total` | `outcome` | `hit`, `negative_hit`, `miss`, `coalesced`, `stale`, `refused_locally`, `overloaded`, `breaker_open` |
/// | `service_token_introspection_calls_total` | `outcome` | `active`, `inactive`, `unsupported_token`, `credentials`, `protocol`, `transient`, `timed_out`, `lost` (it panicked, or the runtime was shut down) |
/// | `service_token_introspection_refusals_total` | `rule` | which rule an active token broke: `expired`, `not_yet_valid`, `audience`, `issuer`, `token_type`, `bound_to_a_key`, `no_subject` |
/// | `service_token_introspection_calls_in_flight` | – | a gauge |
/// | `service_token_introspection_breaker_open` | – | a gauge, 0 or 1 |
#[derive(Clone)]
pub struct IntrospectionStore {
    core: Arc<Core>,
}

impl IntrospectionStore {
    /// Begins to set up a store that proves itself to the server like this.
    pub fn builder(auth: ClientAuth) -> IntrospectionBuilder {
        IntrospectionBuilder::new(auth)
    }

    /// Forgets what is known of one token. A call about it that is running is not believed.
    pub fn invalidate(&self, credential: &Credential<'_>) {
        let (core, key) = (&self.core, self.core.key(credential));
        core.lookups
            .invalidate(Some(&key), || core.cache.remove(&key));
    }

    /// Forgets everything. Calls that are running are not believed.
    pub fn clear(&self) {
        let core = &self.core;
        core.lookups.invalidate(None, || core.cache.clear());
    }

    /// How things stand.
    pub fn status(&self) -> IntrospectionStatus {
        let (active, inactive) = self.core.cache.len();
        IntrospectionStatus {
            active,
            inactive,
            in_flight: self.core.lookups.in_flight(),
            breaker: self.core.breaker.state_at(self.core.clock.monotonic()),
        }
    }

    /// What a remembered answer means at this moment.
    fn record_if_valid(&self, entry: &ActiveEntry) -> Option<TokenRecord> {
        let core = &self.core;
        match core.rules.check(&entry.claims, || core.clock.now()) {
            Ok(()) => Some(entry.record.clone()),
            Err(rule) => {
                metrics::claim_violation(rule);
                None
            }
        }
    }

    fn resolve_cached(&self, cached: &CacheEntry) -> Option<TokenRecord> {
        match cached {
            CacheEntry::Active(entry) => {
                metrics::hit();
                self.record_if_valid(entry)
            }
            CacheEntry::Inactive => {
                metrics::negative_hit();
                None
            }
        }
    }

    /// Asks, or waits for who asks already.
    async fn look_up(&self, key: Key, credential: &Credential<'_>) -> LookupResult {
        let mut retry: Option<SharedRetry> = None;
        for _ in 0..MAX_ATTEMPTS {
            let (shared, has_joined) = match retry.take() {
                None => match self.join_or_start(key, credential).await? {
                    LookupSource::Cached(cached) => return Ok(self.resolve_cached(&cached)),
                    LookupSource::InProgress(shared, has_joined) => (shared, has_joined),
                },
                Some(retry) => match self.join_or_start_retry(key, credential, &retry).await? {
                    LookupSource::Cached(cached) => return Ok(self.resolve_cached(&cached)),
                    LookupSource::InProgress(shared, _) => (shared, false),
                },
            };
            match shared.await {
                Ok(LookupResponse::Active(entry)) => return Ok(self.record_if_valid(&entry)),
                Ok(LookupResponse::Inactive) => return Ok(None),
                Ok(LookupResponse::Failed(error, again)) if error.is_transient() && has_joined => {
                    retry = Some(again);
                }
                Ok(LookupResponse::Failed(error, _)) => return Err(error),
                Ok(LookupResponse::Invalidated) => {}
                Err(_) => return Err(IntrospectionError::transient("the call did not end")),
            }
        }
        let why = "the token was forgotten during each of several calls";
        Err(IntrospectionError::transient(why))
    }

    /// Joins the one call that all who waited for a failed one share, or begins it.
    async fn join_or_start_retry(
        &self,
        key: Key,
        credential: &Credential<'_>,
        retry: &SharedRetry,
    ) -> Result<LookupSource, IntrospectionError> {
        let mut retry = retry.lock().await;
        if let Some(shared) = &*retry {
            return Ok(LookupSource::InProgress(shared.clone(), true));
        }
        let source = self.join_or_start(key, credential).await?;
        if let LookupSource::InProgress(shared, _) = &source {
            *retry = Some(shared.clone());
        }
        Ok(source)
    }

    /// Joins the call about this token, or begins it.
    async fn join_or_start(
        &self,
        key: Key,
        credential: &Credential<'_>,
    ) -> Result<LookupSource, IntrospectionError> {
        let core = &self.core;
        let admission = match core.lookups.admit(core, key, None) {
            Admission::AtCapacity => core.lookups.admit(core, key, Some(self.permit().await?)),
            admission => admission,
        };
        match admission {
            Admission::Cached(cached) => Ok(LookupSource::Cached(cached)),
            Admission::Joined(shared) => {
                metrics::coalesced();
                Ok(LookupSource::InProgress(shared, true))
            }
            Admission::Started(lookup, shared) => {
                // There is a runtime, or `find` had not come here.
                Handle::current().spawn(lookup.run(credential.to_owned()));
                Ok(LookupSource::InProgress(shared, false))
            }
            Admission::AtCapacity => Err(overloaded()),
            Admission::BreakerOpen(wait) => {
                metrics::breaker_open();
                let why = "the server is not asked for a while, having failed too often";
                let error = IntrospectionError::new(IntrospectionErrorKind::BreakerOpen, why);
                Err(error.with_retry_after(wait))
            }
        }
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, IntrospectionError> {
        let permit = self.core.lookups.permits().acquire_owned();
        let waited = timeout(PERMIT_TIMEOUT, permit).await;
        waited.ok().and_then(Result::ok).ok_or_else(overloaded)
    }

    /// An answer past its time, where that was asked for and the failure allows it.
    fn stale(&self, key: &Key, error: &IntrospectionError) -> Option<TokenRecord> {
        let core = &self.core;
        let is_outage = matches!(
            error.kind(),
            IntrospectionErrorKind::Transient | IntrospectionErrorKind::BreakerOpen
        );
        if !is_outage || core.settings.stale_if_error.is_zero() {
            return None;
        }
        let entry = core.cache.last_known(key)?;
        let end = entry.until.saturating_add(core.settings.stale_if_error);
        if core.clock.monotonic() >= end {
            return None;
        }
        let record = self.record_if_valid(&entry)?;
        metrics::stale(error);
        Some(record.into_stale())
    }
}

/// Where a request gets its answer from.
enum LookupSource {
    Cached(CacheEntry),
    /// From a call, and whether that was begun by someone else.
    InProgress(SharedResult, bool),
}

fn overloaded() -> IntrospectionError {
    metrics::overloaded();
    let why = "too many calls are running";
    IntrospectionError::new(IntrospectionErrorKind::Overloaded, why)
}

#[async_trait]
impl TokenStore for IntrospectionStore {
    fn find_cached(&self, credential: &Credential<'_>) -> Cached {
        let core = &self.core;
        let (key, now) = (core.key(credential), core.clock.monotonic());
        match core.cache.get(&key, now, || core.clock.now()) {
            Some(cached) => self
                .resolve_cached(&cached)
                .map_or(Cached::NotFound, Cached::Found),
            None if core.precheck.admits(credential.token()) => Cached::Miss,
            None => {
                metrics::refused_locally();
                Cached::NotFound
            }
        }
    }

    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        if !self.core.precheck.admits(credential.token()) {
            metrics::refused_locally();
            return Ok(None);
        }
        Handle::try_current().map_err(StoreError::unavailable)?;
        let key = self.core.key(credential);
        let looked = timeout(self.core.settings.timeout, self.look_up(key, credential)).await;
        let found = looked.unwrap_or_else(|_| {
            let why = "the server took too long";
            Err(IntrospectionError::transient(why))
        });
        match found {
            Ok(found) => Ok(found),
            Err(error) => match self.stale(&key, &error) {
                Some(record) => Ok(Some(record)),
                None => Err(error.into()),
            },
        }
    }

    /// Forgets what is remembered, and calls the server.
    async fn find_uncached(
        &self,
        credential: &Credential<'_>,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.invalidate(credential);
        self.find(credential).await
    }
}

impl fmt::Debug for IntrospectionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectionStore")
            .field("endpoint", &self.core.client.endpoint)
            .field("auth", &self.core.client.auth)
            .field("rules", &self.core.rules)
            .field("settings", &self.core.settings)
            .finish_non_exhaustive()
    }
}

/// How an [`IntrospectionStore`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IntrospectionStatus {
    /// How many active tokens are remembered, outdated answers included.
    pub active: usize,
    /// How many inactive tokens are remembered, outdated answers included.
    pub inactive: usize,
    /// Calls that are running.
    pub in_flight: usize,
    /// Whether the server is asked.
    pub breaker: BreakerState,
}
