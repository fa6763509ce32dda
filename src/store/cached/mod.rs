mod lookup;
mod metrics;
mod registry;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;

use self::lookup::{CachedLookups, LookupResult};
use self::metrics::LookupMetrics;
use super::{
    Cached, ChangeListener, Credential, FeedStatus, StoreError, TokenChange, TokenRecord,
    TokenStore,
};
use crate::clock::Clock;
use crate::digest::TokenDigest;
use crate::single_flight::{
    Admission, CacheKey, HitCounters, MAX_NEGATIVE_TTL, Policy, SingleFlight,
};
use crate::token::TokenId;

/// Caches the results of a slower store.
///
/// 1. A valid token is cached for [10 s](Self::with_ttl), counted from before the lookup, and never
///    past its expiry. Where no change feed reaches this process, that is the revocation window.
///    Ages are measured by the monotonic clock, on Linux to about 10 ms.
/// 2. The layer judges every hit, so expiry, start and grace period are exact to the millisecond.
/// 3. Any other result is cached for [2 s](Self::with_negative_ttl), in a map of its own, so that junk
///    cannot evict valid tokens. An error is never cached.
/// 4. Concurrent requests that miss the same token share one lookup. It runs in a task of its own: a
///    request that is dropped neither cancels it nor fails the others, and its result is cached. A
///    lookup that fails or panics fails the requests that wait for it. The next request starts
///    another one.
/// 5. The store's [feed](TokenStore::subscribe) evicts what was changed. A change during a lookup
///    restarts it, up to 8 times, so that the requests that wait for it get a result read after the
///    change. A change [without digests](super::TokenChange::Token) evicts the token by its ID, which
///    visits every entry, and restarts all lookups.
/// 6. The cache holds digests and records, never tokens. A running lookup has a copy of the token,
///    which is zeroed when it ends.
///
/// Clones share the cache.
///
/// ```
/// use tower_service_token::ServiceTokenLayer;
/// use tower_service_token::store::{CachedStore, MemoryStore};
/// # type SlowStore = MemoryStore;
///
/// let tokens = CachedStore::new(SlowStore::new());
/// let layer = ServiceTokenLayer::new(tokens.clone());
/// ```
///
/// It is a [registry](crate::registry::TokenRegistry) if the inner store is one. Manage tokens through
/// it rather than through the inner store: its `effective_within` includes the cache. A change applies
/// at once if the store's feed [cannot miss a change](TokenStore::feed_delay), otherwise within the
/// longer TTL, and never sooner than the inner store says for other nodes. Give all nodes the same
/// TTLs.
///
/// # Caveats
///
/// - Lookups need a Tokio runtime with timers. Without one they fail as unavailable. Hits do not.
/// - A store that returns all records from [`find_cached`](TokenStore::find_cached), such as
///   [`MemoryStore`](super::MemoryStore), gains nothing from a cache.
/// - The TTLs of two nested caches add up, and neither reports the sum. Use one.
/// - If the inner store is unavailable, tokens that are not cached get 503: an entry is not used past
///   its TTL.
///
/// # Metrics
///
/// With the feature `metrics`:
///
/// | name | label | values |
/// |---|---|---|
/// | `service_token_cache_requests_total` | `outcome` | `hit`, `negative_hit`, `miss`, `coalesced`, `overloaded` |
/// | `service_token_cache_lookups_total` | `outcome` | `completed`, `failed`, `timed_out`, `lost` (it panicked, or the runtime was shut down) |
/// | `service_token_cache_lookups_restarted_total` | `reason` | `change` |
/// | `service_token_cache_changes_total` | `scope` | `token`, `everything` |
/// | `service_token_cache_lookups_in_flight` | – | a gauge |
#[must_use]
pub struct CachedStore<S> {
    store: Arc<S>,
    lookups: Arc<CachedLookups>,
    listener: Arc<Listener>,
    hits: Arc<HitCounters>,
}

/// Receives the changes of a store, and evicts the entries of the cache.
struct Listener(Mutex<Arc<CachedLookups>>);

impl<S: TokenStore> CachedStore<S> {
    /// Creates an empty cache in front of `store` and subscribes to its changes.
    pub fn new(store: S) -> Self {
        let lookups = SingleFlight::new(Policy::default());
        Self {
            listener: Listener::subscribe(&store, &lookups),
            store: Arc::new(store),
            lookups,
            hits: Arc::default(),
        }
    }

    /// Returns a reference to the inner store.
    pub fn get_ref(&self) -> &S {
        &self.store
    }

    /// Evicts the token with this digest, as a change notification does.
    pub fn invalidate(&self, digest: &TokenDigest) {
        self.lookups.invalidate([CacheKey::from(digest)]);
    }

    /// Evicts everything, as a change notification for all tokens does.
    pub fn clear(&self) {
        self.lookups.clear();
    }

    /// Returns the current size of the cache.
    pub fn occupancy(&self) -> CacheOccupancy {
        let (positive, negative) = self.lookups.entries.len();
        CacheOccupancy {
            positive,
            negative,
            in_flight: self.lookups.in_flight(),
        }
    }

    fn is_disabled(&self) -> bool {
        self.lookups.policy.ttl.is_zero()
    }

    /// Waits for the lookup of this credential, after joining or starting it.
    async fn look_up(&self, credential: &Credential<'_>) -> LookupResult {
        let runtime = Handle::try_current().map_err(StoreError::unavailable)?;
        let key = CacheKey::from(credential.digest());
        let result = match self.lookups.join_or_start(key).await {
            Admission::Cached(entry) => {
                self.hits.increment(metrics::REQUESTS, entry.kind);
                return Ok(entry.value);
            }
            Admission::Joined(result) => {
                metrics::request("coalesced");
                result
            }
            Admission::Started(lookup, result) => {
                let (store, credential) = (Arc::clone(&self.store), credential.to_owned());
                runtime.spawn(lookup::run(
                    store,
                    credential,
                    lookup,
                    LookupMetrics::start(),
                ));
                result
            }
            Admission::AtCapacity => {
                metrics::request("overloaded");
                let error = StoreError::unavailable("too many lookups are in progress");
                return Err(error.with_retry_after(self.lookups.policy.permit_timeout));
            }
        };
        let lost = |_| {
            Err(StoreError::unavailable(
                "the lookup panicked or was aborted",
            ))
        };
        result.await.unwrap_or_else(lost)
    }
}

/// Settings. Each starts with an empty cache, so set them before you clone the store.
impl<S: TokenStore> CachedStore<S> {
    /// Sets how long a valid token is cached. The default is 10 s.
    ///
    /// Where no change feed reaches this process, a token that was revoked elsewhere is accepted for
    /// this long. It counts from before the lookup, so a slow store does not extend it. 0 disables
    /// the cache and the sharing of lookups: each request calls the inner store.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_service_token::store::{CachedStore, MemoryStore};
    ///
    /// let store = CachedStore::new(MemoryStore::new()).with_ttl(Duration::from_secs(1));
    /// ```
    pub fn with_ttl(self, ttl: Duration) -> Self {
        self.with(|policy| policy.ttl = ttl)
    }

    /// Sets how long an unknown or invalid token is cached. The default is 2 s, the maximum 10 s; 0
    /// disables it.
    ///
    /// Where no change feed reaches this process, a token that was created elsewhere may be rejected
    /// for this long if it was presented before.
    pub fn with_negative_ttl(self, ttl: Duration) -> Self {
        self.with(|policy| policy.negative_ttl = ttl.min(MAX_NEGATIVE_TTL))
    }

    /// Sets about how many valid tokens are cached. The default is 10,000.
    pub fn with_capacity(self, entries: usize) -> Self {
        self.with(|policy| policy.capacity = entries)
    }

    /// Sets about how many other results are cached. The default is 10,000.
    pub fn with_negative_capacity(self, entries: usize) -> Self {
        self.with(|policy| policy.negative_capacity = entries)
    }

    /// Sets the clock. The default is [`SystemClock`](crate::clock::SystemClock).
    ///
    /// Ages are measured by [monotonic](Clock::monotonic) time. The wall clock only ends an entry
    /// early, at the expiry of its token.
    pub fn with_clock(self, clock: impl Clock) -> Self {
        self.with(|policy| policy.clock = Arc::new(clock))
    }

    /// Sets how many lookups may be in progress. The default is 64, the minimum 1.
    ///
    /// A request beyond that waits for up to 1 s, then gets 503. Requests that wait for a lookup in
    /// progress do not count.
    pub fn with_max_in_flight(self, lookups: usize) -> Self {
        self.with(|policy| policy.max_in_flight = lookups)
    }

    /// Sets how long a lookup may take before the requests that wait for it get 503. The default is
    /// 5 s.
    pub fn with_lookup_timeout(self, timeout: Duration) -> Self {
        self.with(|policy| policy.timeout = timeout)
    }

    fn with(mut self, change: impl FnOnce(&mut Policy<Option<TokenRecord>>)) -> Self {
        let mut policy = self.lookups.policy.clone();
        change(&mut policy);
        self.lookups = SingleFlight::new(policy);
        if Arc::strong_count(&self.listener) == 1 {
            *self.listener.lookups() = Arc::clone(&self.lookups);
        } else {
            // A clone continues to use the previous cache.
            self.listener = Listener::subscribe(&*self.store, &self.lookups);
        }
        self
    }
}

#[async_trait]
impl<S: TokenStore> TokenStore for CachedStore<S> {
    fn find_cached(&self, credential: &Credential<'_>) -> Cached {
        if self.is_disabled() {
            return self.store.find_cached(credential);
        }
        let Some(entry) = self.lookups.get(&CacheKey::from(credential.digest())) else {
            return self.store.find_cached(credential);
        };
        self.hits.increment(metrics::REQUESTS, entry.kind);
        entry.value.map_or(Cached::NotFound, Cached::Found)
    }

    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        if self.is_disabled() {
            return self.store.find(credential).await;
        }
        self.look_up(credential).await
    }

    async fn find_uncached(
        &self,
        credential: &Credential<'_>,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.store.find_uncached(credential).await
    }

    async fn find_again(
        &self,
        id: TokenId,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.store.find_again(id, digest).await
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.store.subscribe(listener);
    }

    fn feed_delay(&self) -> Option<Duration> {
        self.store.feed_delay()
    }

    fn feed_status(&self) -> FeedStatus {
        self.store.feed_status()
    }

    fn reports_changes(&self) -> bool {
        self.store.reports_changes()
    }
}

impl Listener {
    fn subscribe(store: &impl TokenStore, lookups: &Arc<CachedLookups>) -> Arc<Self> {
        let listener = Arc::new(Self(Mutex::new(Arc::clone(lookups))));
        store.subscribe(&(Arc::clone(&listener) as Arc<dyn ChangeListener>));
        listener
    }

    fn lookups(&self) -> MutexGuard<'_, Arc<CachedLookups>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChangeListener for Listener {
    fn changed(&self, change: &TokenChange) {
        let lookups = Arc::clone(&self.lookups());
        match change {
            TokenChange::Token { id, digests } if digests.is_empty() => {
                metrics::changed("token");
                // An entry without a record is for an unknown token, which may be this one.
                let is_other = |record: &TokenRecord| record.id() != *id;
                lookups.retain(|record| record.as_ref().is_some_and(is_other));
            }
            TokenChange::Token { digests, .. } => {
                metrics::changed("token");
                lookups.invalidate(digests.iter().map(CacheKey::from));
            }
            TokenChange::Everything => {
                metrics::changed("everything");
                lookups.clear();
            }
        }
    }
}

impl<S> Clone for CachedStore<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            lookups: Arc::clone(&self.lookups),
            hits: Arc::clone(&self.hits),
            listener: Arc::clone(&self.listener),
        }
    }
}

impl<S> fmt::Debug for CachedStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedStore")
            .field("ttl", &self.lookups.policy.ttl)
            .field("negative_ttl", &self.lookups.policy.negative_ttl)
            .finish_non_exhaustive()
    }
}

/// The size of a [`CachedStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheOccupancy {
    /// Cached valid tokens, including expired entries.
    pub positive: usize,
    /// Other cached results, including expired entries.
    pub negative: usize,
    /// Lookups in progress.
    pub in_flight: usize,
}
