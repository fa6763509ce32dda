mod admission;
mod budgets;
mod fair_queue;
mod lookups;
mod metrics;
mod rate;

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::admission::Class;
use self::budgets::Budgets;
pub(crate) use self::lookups::LookupPermit;
use self::lookups::Lookups;
use self::rate::Rate;
use super::client::Client;
use crate::clock::{Clock, SystemClock};
use crate::digest::TokenDigest;

const BURST: NonZeroU32 = NonZeroU32::new(100).expect("more than none");
const INTERVAL: Duration = Duration::from_millis(100);
const MAX_CLIENTS: usize = 10_000;
const MAX_LOOKUPS_PER_SECOND: NonZeroU32 = NonZeroU32::new(4_000).expect("more than none");
const MAX_CONCURRENT_LOOKUPS: NonZeroUsize = NonZeroUsize::new(32).expect("more than none");
const MAX_REMEMBERED_TOKENS: usize = 100_000;

/// Limits the load of unknown tokens on the store and on clients that share an address.
///
/// Tokens that the store [has in memory](crate::store::TokenStore::find_cached) are never limited.
/// Of the others:
///
/// 1. A token that a lookup accepted within the last 24 hours is looked up at once, whatever else
///    its address sends. The digests of the last 100,000 such tokens are remembered, which takes
///    about 13 MB. Unknown tokens are not among them; a token that is refused is forgotten.
/// 2. All other lookups together stay below 4,000 per second, with bursts of a tenth of that, and at
///    most 32 run at a time. A lookup counts until the store answers it, even if its request is
///    dropped (then for at most 5 s), so a slow store always has room for remembered tokens.
/// 3. Each client has a budget of failures: 100 at once, and one more each 100 ms. A failure is a
///    token that is unknown, damaged or not a token. One that is expired, revoked or disabled is
///    known, and its holder is guessing nothing. Accepted tokens do not refill the budget.
/// 4. Lookups of clients within their budget go first. A client beyond it loses nothing but that
///    place: its lookups wait for their turn. At least one lookup in four is of such clients, if
///    any wait.
/// 5. Clients take turns, by network first (IPv4 /16, /24; IPv6 /32, /48), so that an owner of many
///    addresses gets the share of one network.
/// 6. A lookup waits for at most 2 s. At most 2,000 of a client and 4,000 in all wait; beyond, the
///    newest of the client with the most gives way. Requests that cannot wait get 429 with
///    `Retry-After`.
/// 7. If a store answers fewer lookups per second than one address sends unknown tokens, first uses
///    of valid tokens from the *same* address wait for up to 2 s and may get 429. Other addresses
///    and remembered tokens do not.
/// 8. A token that needs no lookup, because its checksum is wrong or the store has in memory that
///    it is unknown, gets 429 with `Retry-After` instead of 401 if its client is beyond its budget.
///
/// The client is the [`ClientAddress`](super::ClientAddress) of the request; IPv6 addresses count
/// by their /64. Requests without one are one client. At `/introspect` it is the token of the
/// service that asks, with a [budget of its own](crate::limits). At most 10,000 clients have a
/// budget of their own at a time; others share one.
///
/// Waiting needs a Tokio runtime with timers. Without one a lookup that would have to wait is
/// refused.
///
/// Clones share everything, and so do layers and endpoints that are given clones; each setter
/// resets budgets and remembered tokens.
///
/// # Metrics
///
/// With the feature `metrics`:
///
/// | name | label | values |
/// |---|---|---|
/// | `service_token_lookup_admissions_total` | `outcome` | `remembered`, `at_once`, `waited`, `refused` |
/// | `service_token_lookups_waiting` | – | a gauge |
/// | `service_token_lookups_running` | – | a gauge: lookups of tokens that are not remembered |
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
    burst: NonZeroU32,
    interval: Duration,
    max_clients: usize,
    max_lookups: NonZeroU32,
    max_concurrent: NonZeroUsize,
    max_remembered: usize,
    clock: Arc<dyn Clock>,
    budgets: Arc<Mutex<Budgets>>,
    lookups: Arc<Lookups>,
}

impl Default for FailureLimit {
    fn default() -> Self {
        Self::new()
    }
}

impl FailureLimit {
    /// Creates a limit with the defaults above.
    pub fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (max_lookups, max_remembered) = (MAX_LOOKUPS_PER_SECOND, MAX_REMEMBERED_TOKENS);
        Self {
            burst: BURST,
            interval: INTERVAL,
            max_clients: MAX_CLIENTS,
            max_lookups,
            max_concurrent: MAX_CONCURRENT_LOOKUPS,
            max_remembered,
            budgets: budgets(BURST, INTERVAL, MAX_CLIENTS),
            lookups: lookups(&clock, max_lookups, MAX_CONCURRENT_LOOKUPS, max_remembered),
            clock,
        }
    }

    /// Sets how many failures a client may have at once. The default is 100.
    pub fn with_burst(mut self, failures: NonZeroU32) -> Self {
        self.burst = failures;
        self.rebuild()
    }

    /// Sets the time after which a client may have one more failure. The default is 100 ms.
    ///
    /// It is cut where a whole budget would need more than a hundred years to come back.
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self.rebuild()
    }

    /// Sets how many clients have a budget of their own at a time, at about 100 bytes each. The
    /// default is 10,000.
    pub fn with_max_clients(mut self, clients: usize) -> Self {
        self.max_clients = clients;
        self.rebuild()
    }

    /// Sets how many lookups of tokens that are not remembered may run per second. The default is
    /// 4,000.
    pub fn with_max_lookups_per_second(mut self, lookups: NonZeroU32) -> Self {
        self.max_lookups = lookups;
        self.rebuild()
    }

    /// Sets how many lookups of tokens that are not remembered may run at a time. The default is 32.
    ///
    /// Choose fewer than the store can run at a time, such as
    /// [`CachedStore::with_max_in_flight`](crate::store::CachedStore::with_max_in_flight), whose
    /// default is 64: the rest is left to remembered tokens. Limits that share a store add up.
    pub fn with_max_concurrent_lookups(mut self, lookups: NonZeroUsize) -> Self {
        self.max_concurrent = lookups;
        self.rebuild()
    }

    /// Sets how many accepted tokens are remembered, at about 130 bytes each. The default is
    /// 100,000.
    pub fn with_max_remembered_tokens(mut self, tokens: usize) -> Self {
        self.max_remembered = tokens;
        self.rebuild()
    }

    /// Sets the clock whose [monotonic](Clock::monotonic) time is measured by. The default is
    /// [`SystemClock`].
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self.rebuild()
    }

    /// The same limit on lookups with other budgets: 1,000 failures at once, and one more each
    /// millisecond.
    #[cfg(feature = "api")]
    pub(crate) fn for_services(&self) -> Self {
        let mut limit = self.clone();
        limit.burst = const { NonZeroU32::new(1_000).expect("more than none") };
        limit.interval = Duration::from_millis(1);
        limit.budgets = budgets(limit.burst, limit.interval, limit.max_clients);
        limit
    }

    /// Waits until a lookup of this token may run. Returns its permit, `None` if it needs none, or
    /// when to try again.
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

    /// Remembers that a lookup accepted this token.
    pub(super) fn remember(&self, digest: &TokenDigest) {
        self.lookups.remember(digest);
    }

    /// Forgets a token that a lookup did not accept.
    pub(super) fn forget(&self, digest: &TokenDigest) {
        self.lookups.forget(digest);
    }

    /// Counts a failure. Returns when to try again if the budget was spent before.
    pub(super) fn count(&self, client: Client) -> Result<(), Duration> {
        let now = self.clock.monotonic();
        self.budgets().count(client, now)
    }

    fn budgets(&self) -> MutexGuard<'_, Budgets> {
        // Each write is one step, so a panic leaves nothing half-done.
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rebuild(mut self) -> Self {
        self.budgets = budgets(self.burst, self.interval, self.max_clients);
        let (max_lookups, max_remembered) = (self.max_lookups, self.max_remembered);
        self.lookups = lookups(
            &self.clock,
            max_lookups,
            self.max_concurrent,
            max_remembered,
        );
        self
    }
}

fn lookups(
    clock: &Arc<dyn Clock>,
    per_second: NonZeroU32,
    max_running: NonZeroUsize,
    remembered: usize,
) -> Arc<Lookups> {
    let clock = Arc::clone(clock);
    Arc::new(Lookups::new(clock, per_second, max_running, remembered))
}

fn budgets(burst: NonZeroU32, interval: Duration, max_clients: usize) -> Arc<Mutex<Budgets>> {
    let budgets = Budgets::new(Rate::new(burst, interval), max_clients);
    Arc::new(Mutex::new(budgets))
}

impl fmt::Debug for FailureLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailureLimit")
            .field("burst", &self.burst)
            .field("interval", &self.interval)
            .field("max_clients", &self.max_clients)
            .field("max_lookups_per_second", &self.max_lookups)
            .field("max_concurrent_lookups", &self.max_concurrent)
            .field("max_remembered_tokens", &self.max_remembered)
            .finish_non_exhaustive()
    }
}
