use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::principal_end::PrincipalEnd;
use super::stream_limits::StreamLimits;
use super::watch_list::WatchList;
use super::watch_task::WatchTask;
use super::watched::Watched;
use crate::clock::{Clock, SystemClock};
use crate::observe::{self, RequestInfo};
use crate::principal::Principal;
use crate::reject::{Rejection, RejectionReason};
use crate::store::TokenStore;

const MIN_BOUND: Duration = Duration::from_secs(1);

const MAX_BOUND: Duration = Duration::from_secs(86_400);

/// The TTL of a [`CachedStore`](crate::store::CachedStore).
const DEFAULT_BOUND: Duration = Duration::from_secs(10);

/// Watches the principals of open streams. Clones share their principals.
///
/// One task looks up the tokens of all streams, each token once:
///
/// 1. when a stream opens,
/// 2. when the store [reports](TokenStore::subscribe) a change of the token,
/// 3. while the store does not [report changes](TokenStore::reports_changes), every half of the
///    [bound](PrincipalWatcherBuilder::with_bound).
///
/// The expiry of a token and the end of a grace period need no lookup. A principal whose token cannot be
/// looked up ends after the bound.
///
/// A stream thus ends at most the bound after its token, plus the time that the store takes; with a
/// store that reports changes, at once.
///
/// # Tenants
///
/// Four lookups run at a time. Owners take turns, whatever the number of their tokens, and no owner has
/// all four; so the streams of one owner make those of another neither late nor
/// [unavailable](PrincipalEnd::Unavailable). A token without an owner takes turns of its own.
/// [`StreamLimits`] limits the open streams of each token, of each owner and in total.
///
/// ```
/// use tower_service_token::reject::Rejection;
/// use tower_service_token::streams::{PrincipalEnd, PrincipalWatcher};
/// use tower_service_token::{MemoryStore, Principal};
///
/// async fn handler(caller: Principal, watcher: PrincipalWatcher) -> Result<PrincipalEnd, Rejection> {
///     let watch = watcher.watch(&caller)?;
///     // Send to the client until `ended` returns.
///     Ok(watch.ended().await)
/// }
///
/// let watcher = PrincipalWatcher::new(MemoryStore::new());
/// ```
#[derive(Clone)]
#[must_use]
pub struct PrincipalWatcher(Arc<WatchList>);

impl PrincipalWatcher {
    /// Creates a watcher of tokens in `store`, which should be the store of the layer. Lookups bypass a
    /// cache.
    ///
    /// The store must implement [`TokenStore::find_again`], as all stores of this crate do except
    /// `IntrospectionStore`.
    pub fn new(store: impl TokenStore) -> Self {
        Self::builder(store).build()
    }

    /// Creates a builder for a watcher with other settings than those of [`new`](Self::new).
    pub fn builder(store: impl TokenStore) -> PrincipalWatcherBuilder {
        PrincipalWatcherBuilder {
            store: Arc::new(store),
            clock: Arc::new(SystemClock),
            bound: DEFAULT_BOUND,
            limits: StreamLimits::default(),
        }
    }

    /// Watches the principal of a stream.
    ///
    /// Starts a task unless it is running. The task ends when no stream is watched.
    ///
    /// # Errors
    ///
    /// Returns a rejection (429), which is already logged and counted, if the token, its owner or the
    /// watcher has too many [open streams](StreamLimits). Its source is
    /// [`TooManyStreams`](super::TooManyStreams).
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub fn watch(&self, principal: &Principal) -> Result<PrincipalWatch, Rejection> {
        // Panics before anything changes.
        let runtime = Handle::current();
        let list = &self.0;
        let added = list.add(principal).map_err(|exceeded| {
            let rejection = Rejection::new(RejectionReason::TooManyStreams)
                .with_retry_after(list.bound())
                .with_source(exceeded)
                .with_principal(principal);
            observe::guard_rejected(rejection, &RequestInfo::default())
        })?;
        let watch = PrincipalWatch {
            watched: added.watched,
            list: Arc::clone(list),
        };
        if added.needs_task {
            // A runtime that shuts down drops the task here.
            runtime.spawn(WatchTask::new(list).run());
        }
        Ok(watch)
    }
}

/// Builds a [`PrincipalWatcher`]. Created by [`PrincipalWatcher::builder`].
#[must_use]
pub struct PrincipalWatcherBuilder {
    store: Arc<dyn TokenStore>,
    clock: Arc<dyn Clock>,
    bound: Duration,
    limits: StreamLimits,
}

impl PrincipalWatcherBuilder {
    /// Sets how long a stream may stay open without a successful lookup of its token, clamped to one
    /// second to one day. The default is 10 s.
    pub fn with_bound(mut self, bound: Duration) -> Self {
        self.bound = bound.clamp(MIN_BOUND, MAX_BOUND);
        self
    }

    /// Sets the clock that the times of tokens are compared with. The default is [`SystemClock`].
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the largest numbers of open streams. See [`StreamLimits`] for the defaults.
    pub fn with_limits(mut self, limits: StreamLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Creates the watcher.
    pub fn build(self) -> PrincipalWatcher {
        let list = WatchList::new(self.store, self.clock, self.bound, self.limits);
        PrincipalWatcher(Arc::new(list))
    }
}

impl fmt::Debug for PrincipalWatcherBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrincipalWatcherBuilder")
            .field("bound", &self.bound)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PrincipalWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrincipalWatcher").finish_non_exhaustive()
    }
}

/// Waits for the end of a principal. Created by [`PrincipalWatcher::watch`].
///
/// Drop it when the stream ends. Until then, the stream counts for the [limits](StreamLimits).
#[must_use = "the token is no longer looked up once this is dropped"]
pub struct PrincipalWatch {
    watched: Arc<Watched>,
    /// The task runs until the last watch is dropped.
    list: Arc<WatchList>,
}

impl PrincipalWatch {
    /// Waits until the principal ends. Returns at once if it has ended. Cancel safe.
    pub async fn ended(&self) -> PrincipalEnd {
        let mut end = self.watched.subscribe();
        let ended = end.wait_for(Option::is_some).await;
        ended
            .map_or(None, |end| *end)
            .unwrap_or(PrincipalEnd::Unavailable)
    }

    /// Returns whether the principal has ended.
    pub fn has_ended(&self) -> bool {
        self.watched.has_ended()
    }
}

impl Drop for PrincipalWatch {
    fn drop(&mut self) {
        self.list.remove(&self.watched);
    }
}

impl fmt::Debug for PrincipalWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrincipalWatch")
            .field("token_id", &self.watched.id())
            .field("has_ended", &self.has_ended())
            .finish_non_exhaustive()
    }
}
