use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::principal_end::PrincipalEnd;
use super::watch_list::WatchList;
use super::watched::Watched;
use crate::clock::{Clock, SystemClock};
use crate::principal::Principal;
use crate::store::TokenStore;

/// The TTL of a [`CachedStore`](crate::store::CachedStore).
const MIN_BOUND: Duration = Duration::from_secs(1);

const MAX_BOUND: Duration = Duration::from_secs(86_400);

const DEFAULT_BOUND: Duration = Duration::from_secs(10);

/// Watches the principals of open streams. Clones share their principals.
///
/// One task looks up the tokens of all streams, each token once:
///
/// 1. when a stream opens,
/// 2. when the store [reports](TokenStore::subscribe) a change of the token,
/// 3. while the store does not [report changes](TokenStore::reports_changes), every half of the
///    [bound](Self::with_bound).
///
/// The expiry of a token and the end of a grace period need no lookup. A principal whose token cannot be
/// looked up ends after the bound.
///
/// A stream thus ends at most the bound after its token, plus the time that the store takes; with a
/// store that reports changes, at once.
///
/// ```
/// use tower_service_token::streams::{PrincipalEnd, PrincipalWatcher};
/// use tower_service_token::{MemoryStore, Principal};
///
/// async fn handler(caller: Principal, watcher: PrincipalWatcher) -> PrincipalEnd {
///     let watch = watcher.watch(&caller);
///     // Send to the client until `ended` returns.
///     watch.ended().await
/// }
///
/// let watcher = PrincipalWatcher::new(MemoryStore::new());
/// ```
#[derive(Clone)]
pub struct PrincipalWatcher(Arc<WatchList>);

impl PrincipalWatcher {
    /// Creates a watcher of tokens in `store`, which should be the store of the layer. Lookups bypass a
    /// cache.
    ///
    /// The store must implement [`TokenStore::find_again`], as all stores of this crate do except
    /// `IntrospectionStore`.
    pub fn new(store: impl TokenStore) -> Self {
        let list = WatchList::new(Arc::new(store), Arc::new(SystemClock), DEFAULT_BOUND);
        Self(Arc::new(list))
    }

    /// Sets how long a stream may stay open without a successful lookup of its token, clamped to one
    /// second to one day. The default is 10 s.
    pub fn with_bound(self, bound: Duration) -> Self {
        let bound = bound.clamp(MIN_BOUND, MAX_BOUND);
        Self(Arc::new(self.0.with(None, Some(bound))))
    }

    /// Sets the clock that the times of tokens are compared with. The default is [`SystemClock`].
    pub fn with_clock(self, clock: impl Clock) -> Self {
        Self(Arc::new(self.0.with(Some(Arc::new(clock)), None)))
    }

    /// Watches the principal of a stream.
    ///
    /// Starts a task unless it is running. The task ends when no stream is watched.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub fn watch(&self, principal: &Principal) -> PrincipalWatch {
        PrincipalWatch {
            watched: self.0.add(principal),
            list: Arc::clone(&self.0),
        }
    }
}

impl fmt::Debug for PrincipalWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrincipalWatcher").finish_non_exhaustive()
    }
}

/// Waits for the end of a principal. Created by [`PrincipalWatcher::watch`].
///
/// Drop it when the stream ends.
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

impl fmt::Debug for PrincipalWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = &self.list;
        f.debug_struct("PrincipalWatch")
            .field("token_id", &self.watched.id())
            .field("has_ended", &self.has_ended())
            .finish_non_exhaustive()
    }
}
