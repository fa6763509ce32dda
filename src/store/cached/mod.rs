mod entries;
mod lookup;
mod lookups;
mod metrics;
mod registry;
mod settings;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use self::lookups::{Admission, LookupResult, Lookups, SharedResult};
use self::settings::Settings;
use super::key::Key;
use super::{Cached, ChangeListener, Credential, FeedStatus, StoreError, TokenRecord, TokenStore};
use crate::digest::TokenDigest;

/// How long a request waits until it may begin a lookup.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Remembers what a slower store says.
///
/// 1. A good token is remembered for [10 s](Self::with_ttl), counted from before the lookup, and
///    never past its expiry. That is the revocation window where no change feed reaches this
///    process. Nothing of this depends on the wall clock being set.
/// 2. The layer judges every hit, so expiry, start and grace hold to the millisecond.
/// 3. Every other answer is remembered for [2 s](Self::with_negative_ttl), and elsewhere, so that
///    junk cannot drive out good tokens. An error is never remembered.
/// 4. Requests that miss the same token share one lookup. It runs in a task of its own: a request
///    that is dropped neither cancels it nor fails the others, and its answer is remembered. One
///    that fails or panics fails those who wait for it; the next request looks anew.
/// 5. The store's [feed](TokenStore::subscribe) makes the cache forget what was changed. A change
///    during a lookup makes it look again, up to 8 times, so the requests that wait for it get
///    what holds after the change.
/// 6. What is kept are digests and records, never tokens, except by a running lookup, whose copy
///    is zeroed when it ends.
///
/// Clones share all of it.
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
/// It is a [registry](crate::registry::TokenRegistry) if the store behind is one. Managing tokens through it,
/// rather than through the store behind, makes `effective_within` tell the whole truth: at once if
/// the store's feed [cannot miss a change](TokenStore::feed_delay), else the longer of the two
/// times to live, and never less than the store behind says of other nodes. Give all nodes the
/// same times.
///
/// # Caveats
///
/// - Only lookups need a Tokio runtime, with timers: without one they fail as unavailable.
/// - A store that answers by itself in [`find_cached`](TokenStore::find_cached), as
///   [`MemoryStore`](super::MemoryStore), gains nothing from this.
/// - Of two caches, one behind the other, the times add up, and neither says so. One is enough.
/// - If the store cannot be asked, tokens that are not remembered get 503: an entry is never used
///   past its time.
///
/// # Metrics
///
/// With the feature `metrics`:
///
/// | name | label | values |
/// |---|---|---|
/// | `service_token_cache_requests_total` | `outcome` | `hit`, `negative_hit`, `miss`, `coalesced`, `overloaded` |
/// | `service_token_cache_lookups_total` | `outcome` | `answered`, `failed`, `timed_out`, `lost` (it panicked, or the runtime was shut down) |
/// | `service_token_cache_lookups_overtaken_total` | `by` | `change` |
/// | `service_token_cache_changes_total` | `scope` | `token`, `everything` |
/// | `service_token_cache_lookups_in_flight` | – | a gauge |
#[must_use]
pub struct CachedStore<S> {
    store: Arc<S>,
    lookups: Arc<Lookups>,
}

impl<S: TokenStore> CachedStore<S> {
    /// Puts an empty cache in front of `store`, and subscribes to its changes.
    pub fn new(store: S) -> Self {
        Self::with_settings(Arc::new(store), Settings::default())
    }

    /// The store behind.
    pub fn get_ref(&self) -> &S {
        &self.store
    }

    /// Forgets what is known of the token with this digest, as if its store had told of a change.
    pub fn invalidate(&self, digest: &TokenDigest) {
        self.lookups.invalidate([Key::from(digest)]);
    }

    /// Forgets everything, as if the store had told that all was changed.
    pub fn clear(&self) {
        self.lookups.clear();
    }

    /// How much is in the cache now.
    pub fn occupancy(&self) -> CacheOccupancy {
        let (positive, negative) = self.lookups.entries.len();
        CacheOccupancy {
            positive,
            negative,
            in_flight: self.lookups.in_flight(),
        }
    }

    fn with_settings(store: Arc<S>, settings: Settings) -> Self {
        let lookups = Arc::new(Lookups::new(settings));
        let listener: Arc<dyn ChangeListener> = lookups.clone();
        store.subscribe(&listener);
        Self { store, lookups }
    }

    fn set(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.lookups.settings.clone();
        change(&mut settings);
        Self::with_settings(self.store, settings)
    }

    /// How old an answer can be.
    fn max_entry_age(&self) -> Duration {
        let settings = &self.lookups.settings;
        if self.is_disabled() {
            return Duration::ZERO;
        }
        settings.ttl.max(settings.negative_ttl)
    }

    fn is_disabled(&self) -> bool {
        self.lookups.settings.ttl.is_zero()
    }

    /// Joins or begins the lookup for this credential.
    async fn look_up(&self, credential: &Credential<'_>) -> LookupResult {
        let runtime = Handle::try_current().map_err(StoreError::unavailable)?;
        let key = Key::from(credential.digest());
        let admission = match self.lookups.join_or_start(key, None) {
            Admission::AtCapacity => self.lookups.join_or_start(key, Some(self.permit().await?)),
            admission => admission,
        };
        match admission {
            Admission::Cached(kind, answer) => {
                metrics::hit(kind);
                Ok(answer)
            }
            Admission::Joined(shared_result) => {
                metrics::coalesced();
                wait_for_result(shared_result).await
            }
            Admission::Started(lookup, shared_result) => {
                metrics::miss();
                let store = Arc::clone(&self.store);
                runtime.spawn(lookup.run(store, credential.to_owned()));
                wait_for_result(shared_result).await
            }
            Admission::AtCapacity => Err(overloaded()),
        }
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        let permit = self.lookups.permits().acquire_owned();
        let waited = timeout(PERMIT_TIMEOUT, permit).await;
        waited.ok().and_then(Result::ok).ok_or_else(overloaded)
    }
}

async fn wait_for_result(shared_result: SharedResult) -> LookupResult {
    let lost = |_| Err(StoreError::unavailable("the lookup did not end"));
    shared_result.await.unwrap_or_else(lost)
}

fn overloaded() -> StoreError {
    metrics::overloaded();
    let error = StoreError::unavailable("too many lookups are running");
    error.with_retry_after(PERMIT_TIMEOUT)
}

#[async_trait]
impl<S: TokenStore> TokenStore for CachedStore<S> {
    fn find_cached(&self, credential: &Credential<'_>) -> Cached {
        if self.is_disabled() {
            return self.store.find_cached(credential);
        }
        let key = Key::from(credential.digest());
        let Some((kind, answer)) = self.lookups.entries.get(&key, self.lookups.now()) else {
            return self.store.find_cached(credential);
        };
        metrics::hit(kind);
        answer.map_or(Cached::NotFound, Cached::Found)
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

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.store.subscribe(listener);
    }

    fn feed_delay(&self) -> Option<Duration> {
        self.store.feed_delay()
    }

    fn feed_status(&self) -> FeedStatus {
        self.store.feed_status()
    }
}

impl<S> Clone for CachedStore<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            lookups: Arc::clone(&self.lookups),
        }
    }
}

impl<S> fmt::Debug for CachedStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.lookups.settings;
        f.debug_struct("CachedStore")
            .field("ttl", &settings.ttl)
            .field("negative_ttl", &settings.negative_ttl)
            .finish_non_exhaustive()
    }
}

/// How much is in a [`CachedStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheOccupancy {
    /// Answers that let requests pass, outdated ones included.
    pub positive: usize,
    /// All other answers, outdated ones included.
    pub negative: usize,
    /// Lookups that are running.
    pub in_flight: usize,
}
