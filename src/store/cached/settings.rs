use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::CachedStore;
use crate::clock::{Clock, SystemClock};
use crate::store::TokenStore;

const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(10);

/// How a cache behaves. Never changed once it is in use.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) ttl: Duration,
    pub(super) negative_ttl: Duration,
    pub(super) capacity: usize,
    pub(super) negative_capacity: usize,
    pub(super) max_in_flight: usize,
    pub(super) lookup_timeout: Duration,
    pub(super) clock: Arc<dyn Clock>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            negative_ttl: Duration::from_secs(2),
            capacity: 10_000,
            negative_capacity: 10_000,
            max_in_flight: 64,
            lookup_timeout: Duration::from_secs(5),
            clock: Arc::new(SystemClock),
        }
    }
}

/// Each of these begins with an empty cache of its own, so they belong before the first clone.
impl<S: TokenStore> CachedStore<S> {
    /// For how long a good token is remembered: *the* window in which a token that was revoked
    /// elsewhere still works, where no change feed reaches this process. Default: 10 s.
    ///
    /// It counts from before the lookup began, so a slow store does not widen it. 0 switches all
    /// of this store off: every request asks the one behind, for itself.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_service_token::store::{CachedStore, MemoryStore};
    ///
    /// let store = CachedStore::new(MemoryStore::new()).with_ttl(Duration::from_secs(1));
    /// ```
    pub fn with_ttl(self, ttl: Duration) -> Self {
        self.set(|settings| settings.ttl = ttl)
    }

    /// For how long it is remembered that there is no such token, or that it lets nobody pass.
    /// Default: 2 s; at most 10 s; 0: not at all.
    ///
    /// A token created elsewhere may be refused for this long by a node that was asked for it
    /// before, where no change feed reaches it.
    pub fn with_negative_ttl(self, ttl: Duration) -> Self {
        self.set(|settings| settings.negative_ttl = ttl.min(MAX_NEGATIVE_TTL))
    }

    /// About how many good tokens are remembered. Default: 10,000.
    pub fn with_capacity(self, entries: usize) -> Self {
        self.set(|settings| settings.capacity = entries)
    }

    /// About how many other answers are remembered. Default: 10,000.
    pub fn with_negative_capacity(self, entries: usize) -> Self {
        self.set(|settings| settings.negative_capacity = entries)
    }

    /// The clock that ages are measured by. Default: [`SystemClock`].
    ///
    /// Age is [monotonic](Clock::monotonic) time. The wall clock only ends an entry early, at the
    /// expiry of its token.
    pub fn with_clock(self, clock: impl Clock) -> Self {
        self.set(|settings| settings.clock = Arc::new(clock))
    }

    /// How many lookups may run at a time. Default: 64; at least 1.
    ///
    /// A request beyond waits for up to a second and gets 503 then. Those that wait for a running
    /// lookup are not counted.
    pub fn with_max_in_flight(self, lookups: usize) -> Self {
        let lookups = lookups.clamp(1, Semaphore::MAX_PERMITS);
        self.set(|settings| settings.max_in_flight = lookups)
    }

    /// How long a lookup may take before all who wait for it get 503. Default: 5 s.
    pub fn with_lookup_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.lookup_timeout = timeout)
    }
}
