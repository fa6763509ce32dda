mod admission;
mod budgets;
mod fair_queue;
mod lookups;

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::admission::Class;
use self::budgets::{Budgets, Rate};
pub(crate) use self::lookups::LookupPermit;
use self::lookups::Lookups;
use super::client::Client;
use crate::clock::{Clock, SystemClock};
use crate::digest::TokenDigest;

/// Limits the load of unknown tokens on the store and on clients that share an address.
///
/// Tokens that the store [has in memory](crate::store::TokenStore::find_cached) are never limited.
/// Of the others:
///
/// 1. A token that a lookup accepted within the last 24 hours is looked up immediately. The digests
///    of the last 100,000 such tokens are remembered, in about 13 MB. A rejected token is forgotten.
/// 2. All other lookups are limited to 4,000 per second, with bursts of a tenth of that, and to 32 at
///    a time. A lookup counts until the store responds, even if its request is dropped (then for at
///    most 5 s), so a slow store always has capacity for remembered tokens.
/// 3. Each client has a budget of 100 failures, refilled by one per 100 ms. A failure is a token that
///    is unknown, damaged or malformed. An expired, revoked or disabled token is known, so it is not
///    a failure. Accepted tokens do not refill the budget.
/// 4. Lookups of clients within their budget go first. Lookups of clients over their budget are
///    queued behind them, but get at least one lookup in four.
/// 5. Clients take turns, by network first (IPv4 /16, /24; IPv6 /32, /48), so that the owner of many
///    addresses gets the share of one network.
/// 6. A lookup is queued for at most 2 s. At most 2,000 lookups of a client and 4,000 in all are
///    queued; if there are more, the newest one of the client with the most is removed. Requests
///    whose lookup is not queued get 429 with `Retry-After`.
/// 7. If one address sends more unknown tokens than the store can look up, the first use of a valid
///    token from the *same* address is queued for up to 2 s and may get 429. Other addresses and
///    remembered tokens are not affected.
/// 8. A token that needs no lookup, because its checksum is wrong or the store has cached that it is
///    unknown, gets 429 with `Retry-After` instead of 401 if its client is over its budget.
///
/// The client is the [`ClientAddress`](super::ClientAddress) of the request, with an IPv6 address
/// reduced to its /64 network. All requests without an address are one client. At `/introspect` the
/// client is the token of the calling service, with a [budget of its own](crate::limits). At most
/// 10,000 clients have their own budget at a time; the others share one.
///
/// Queueing needs a Tokio runtime with timers. Without one, a lookup that would be queued is
/// rejected.
///
/// Clones share budgets and remembered tokens. Each setter resets both.
///
/// # Metrics
///
/// With the feature `metrics`:
///
/// | name | label | values |
/// |---|---|---|
/// | `service_token_lookup_admissions_total` | `outcome` | `remembered`, `immediate`, `queued`, `rejected` |
/// | `service_token_lookups_queued` | – | a gauge of queued lookups |
/// | `service_token_lookups_running` | – | a gauge of running lookups of tokens that are not remembered |
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use tower_service_token::limits::FailureLimit;
/// use tower_service_token::{MemoryStore, ServiceTokenLayer};
///
/// let limit = FailureLimit::new().with_interval(Duration::from_secs(1));
/// let layer = ServiceTokenLayer::new(MemoryStore::new()).with_failure_limit(limit);
/// ```
#[derive(Clone)]
#[must_use]
pub struct FailureLimit {
    settings: Settings,
    clock: Arc<dyn Clock>,
    budgets: Arc<Mutex<Budgets>>,
    pub(super) lookups: Arc<Lookups>,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    burst: NonZeroU32,
    interval: Duration,
    max_clients: usize,
    max_lookups_per_second: NonZeroU32,
    max_concurrent_lookups: NonZeroUsize,
    max_remembered_tokens: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            burst: const { NonZeroU32::new(100).expect("not zero") },
            interval: Duration::from_millis(100),
            max_clients: 10_000,
            max_lookups_per_second: const { NonZeroU32::new(4_000).expect("not zero") },
            max_concurrent_lookups: const { NonZeroUsize::new(32).expect("not zero") },
            max_remembered_tokens: 100_000,
        }
    }
}

impl Settings {
    fn budgets(&self) -> Arc<Mutex<Budgets>> {
        let rate = Rate::new(self.burst, self.interval);
        Arc::new(Mutex::new(Budgets::new(rate, self.max_clients)))
    }
}

impl Default for FailureLimit {
    fn default() -> Self {
        Self::new()
    }
}

impl FailureLimit {
    /// Creates a limit with the defaults above.
    pub fn new() -> Self {
        Self::build(Settings::default(), Arc::new(SystemClock))
    }

    /// Sets the number of failures in the budget of a client. The default is 100.
    pub fn with_burst(mut self, failures: NonZeroU32) -> Self {
        self.settings.burst = failures;
        self.rebuild()
    }

    /// Sets the time after which the budget of a client is refilled by one failure. The default is
    /// 100 ms.
    ///
    /// With [`SystemClock`](crate::clock::SystemClock), a budget that is full after less than 10 ms is
    /// refilled more slowly on Linux, once per tick of the kernel's clock.
    ///
    /// The interval is shortened if refilling the whole budget would take more than a hundred years.
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.settings.interval = interval;
        self.rebuild()
    }

    /// Sets the maximum number of clients with their own budget, at about 100 bytes each. The default
    /// is 10,000.
    pub fn with_max_clients(mut self, clients: usize) -> Self {
        self.settings.max_clients = clients;
        self.rebuild()
    }

    /// Sets the maximum number of lookups per second of tokens that are not remembered. The default
    /// is 4,000.
    pub fn with_max_lookups_per_second(mut self, lookups: NonZeroU32) -> Self {
        self.settings.max_lookups_per_second = lookups;
        self.rebuild()
    }

    /// Sets the maximum number of concurrent lookups of tokens that are not remembered. The default
    /// is 32.
    ///
    /// Choose less than the capacity of the store, such as
    /// [`CachedStore::with_max_in_flight`](crate::store::CachedStore::with_max_in_flight) with its
    /// default of 64: the difference is reserved for remembered tokens. Limits that share a store add
    /// up.
    pub fn with_max_concurrent_lookups(mut self, lookups: NonZeroUsize) -> Self {
        self.settings.max_concurrent_lookups = lookups;
        self.rebuild()
    }

    /// Sets the maximum number of remembered tokens, at about 130 bytes each. The default is 100,000.
    pub fn with_max_remembered_tokens(mut self, tokens: usize) -> Self {
        self.settings.max_remembered_tokens = tokens;
        self.rebuild()
    }

    /// Sets the clock, of which only [monotonic](Clock::monotonic) time is used. The default is
    /// [`SystemClock`].
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self.rebuild()
    }

    /// Returns a limit that shares its lookups with this one and has budgets of its own: 1,000
    /// failures, refilled by one per millisecond.
    #[cfg(feature = "api")]
    pub(crate) fn for_services(&self) -> Self {
        let mut limit = self.clone();
        limit.settings.burst = const { NonZeroU32::new(1_000).expect("not zero") };
        limit.settings.interval = Duration::from_millis(1);
        limit.budgets = limit.settings.budgets();
        limit
    }

    /// Waits until a lookup of this token may run. Returns its permit, `None` if the token is
    /// remembered, or when to retry.
    pub(super) async fn admit(
        &self,
        digest: &TokenDigest,
        client: Client,
    ) -> Result<Option<LookupPermit>, Duration> {
        let now = self.clock.monotonic();
        let class = if self.budgets().has_remaining(client, now) {
            Class::InBudget
        } else {
            Class::OverBudget
        };
        self.lookups.admit(digest, client, class).await
    }

    /// Counts a failure. Returns when to retry if the budget is exhausted.
    pub(super) fn count(&self, client: Client) -> Result<(), Duration> {
        let now = self.clock.monotonic();
        self.budgets().count(client, now)
    }

    fn budgets(&self) -> MutexGuard<'_, Budgets> {
        // A panic cannot leave the budgets inconsistent.
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rebuild(self) -> Self {
        Self::build(self.settings, self.clock)
    }

    fn build(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let lookups = Lookups::new(
            Arc::clone(&clock),
            settings.max_lookups_per_second,
            settings.max_concurrent_lookups,
            settings.max_remembered_tokens,
        );
        Self {
            settings,
            clock,
            budgets: settings.budgets(),
            lookups: Arc::new(lookups),
        }
    }
}

impl fmt::Debug for FailureLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailureLimit")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
