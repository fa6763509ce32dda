mod client;
mod table;

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::connect_info::ConnectInfo;
use governor::middleware::NoOpMiddleware;
use governor::{Quota, RateLimiter};
use http::request::Parts;

pub(super) use self::client::Client;
use self::table::{Step, Table};
use crate::clock::{Clock, SystemClock};

const BURST: NonZeroU32 = NonZeroU32::new(100).expect("more than none");
const INTERVAL: Duration = Duration::from_millis(100);
const MAX_CLIENTS: usize = 10_000;

/// Between two looks for clients that may be forgotten, so that a flood does not pay for them.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// How many tokens that nobody knows one client may present: against scanning, and for the store.
///
/// 1. Only failures cost: a token that is unknown, damaged or not a token. One that is expired,
///    revoked or disabled is known, so its holder is guessing nothing.
/// 2. Who has spent the budget gets 429 with `Retry-After` *before* the store is asked. A good
///    token that the store [has in memory](crate::store::TokenStore::find_cached) passes all the
///    same, so that an attacker cannot lock out tokens in use behind the same proxy. A store
///    without a memory, such as one of SQL, should stand behind a `CachedStore` (feature `tokio`).
/// 3. The client is the token of who introspects; otherwise the peer's address, where the server is
///    run with [`ConnectInfo<SocketAddr>`](axum::extract::ConnectInfo); without that, all are one
///    client. IPv6 addresses count by their /64. Behind a proxy the peer is the proxy:
///    [`with_client_address`](Self::with_client_address) can look further. No header is believed
///    unless that does.
///    A service that introspects pays for what its own clients send it, so it has
///    [more](crate::api::oauth::OAuthEndpoints::with_service_failure_limit).
/// 4. At most 10,000 clients have a budget of their own at a time. Beyond, newcomers share one.
/// 5. Requests in flight together may fail together: the budget can be overdrawn by as many as the
///    server lets in at a time.
///
/// By default 100 failures at once, and one more each 100 ms. Clones share the budgets, and so do
/// endpoints that are given clones; each setter begins with new ones.
///
/// ```
/// use std::net::IpAddr;
/// use std::time::Duration;
/// use tower_service_token::api::FailureLimit;
/// use tower_service_token::api::forward_auth::ForwardAuth;
/// use tower_service_token::{MemoryStore, ServiceTokenLayer};
///
/// // Only where every request comes by a proxy that sets this header itself.
/// let limit = FailureLimit::new()
///     .with_interval(Duration::from_secs(1))
///     .with_client_address(|parts| {
///         let address = parts.headers.get("x-real-ip")?.to_str().ok()?;
///         address.parse::<IpAddr>().ok()
///     });
/// let verify = ForwardAuth::new(ServiceTokenLayer::new(MemoryStore::new()))
///     .with_failure_limit(limit);
/// ```
#[derive(Clone)]
#[must_use]
pub struct FailureLimit {
    burst: NonZeroU32,
    interval: Duration,
    max_clients: usize,
    clock: Arc<dyn Clock>,
    client_address: Option<ClientAddress>,
    budgets: Arc<Budgets>,
}

type ClientAddress = Arc<dyn Fn(&Parts) -> Option<IpAddr> + Send + Sync>;

struct Budgets {
    limiter: RateLimiter<Step, Table, Monotonic, NoOpMiddleware<Duration>>,
    max_clients: usize,
    swept_at: Mutex<Duration>,
}

impl Default for FailureLimit {
    fn default() -> Self {
        Self::new()
    }
}

impl FailureLimit {
    /// 100 failures at once, and one more each 100 ms.
    pub fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Self {
            burst: BURST,
            interval: INTERVAL,
            max_clients: MAX_CLIENTS,
            client_address: None,
            budgets: Arc::new(Budgets::new(BURST, INTERVAL, MAX_CLIENTS, &clock)),
            clock,
        }
    }

    /// 1,000 failures at once, and one more each millisecond.
    pub(super) fn of_services() -> Self {
        const BURST: NonZeroU32 = NonZeroU32::new(1_000).expect("more than none");

        let limit = Self::new().with_burst(BURST);
        limit.with_interval(Duration::from_millis(1))
    }

    /// How many failures a client may have at once. Default: 100.
    pub fn with_burst(mut self, failures: NonZeroU32) -> Self {
        self.burst = failures;
        self.anew()
    }

    /// After how long a client may have one more. Default: 100 ms.
    ///
    /// Cut where a whole budget would need more than a hundred years to come back.
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self.anew()
    }

    /// How many clients have a budget of their own at a time, at about 100 bytes each. Default:
    /// 10,000.
    pub fn with_max_clients(mut self, clients: usize) -> Self {
        self.max_clients = clients;
        self.anew()
    }

    /// The clock whose [monotonic](Clock::monotonic) time is measured by. Default: [`SystemClock`].
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self.anew()
    }

    /// Tells the address of a request's client instead of the connection's peer. Where it tells
    /// none, the request is one of the client that all such requests share.
    ///
    /// A header is worth as much as who sets it: believe one only if every request passes a proxy
    /// that overwrites it, and of `X-Forwarded-For` only the entries of your own proxies.
    pub fn with_client_address(
        mut self,
        address: impl Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.client_address = Some(Arc::new(address));
        self.anew()
    }

    /// Whom a failure of this request is put down to.
    pub(super) fn client(&self, parts: &Parts) -> Client {
        let address = match &self.client_address {
            Some(address) => address(parts),
            None => parts
                .extensions
                .get::<ConnectInfo<std::net::SocketAddr>>()
                .map(|ConnectInfo(peer)| peer.ip()),
        };
        address.map_or(Client::Unknown, Client::at)
    }

    /// Whether the client may have another failure; if not, when it may.
    pub(super) fn look(&self, client: Client) -> Result<(), Duration> {
        self.budgets.take(Step::Look(client))
    }

    /// Notes a failure, which the client may not have had any more if this is an error.
    pub(super) fn count(&self, client: Client) -> Result<(), Duration> {
        self.budgets.sweep();
        self.budgets.take(Step::Count(client))
    }

    fn anew(mut self) -> Self {
        let budgets = Budgets::new(self.burst, self.interval, self.max_clients, &self.clock);
        self.budgets = Arc::new(budgets);
        self
    }
}

impl Budgets {
    fn new(
        burst: NonZeroU32,
        interval: Duration,
        max_clients: usize,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        // The limiter counts in nanoseconds, of which 64 bits hold 584 years.
        let longest = Duration::from_nanos(u64::MAX / 4 / u64::from(burst.get()));
        let interval = interval.clamp(Duration::from_nanos(1), longest);
        let quota = Quota::with_period(interval).expect("a nanosecond or more");
        let clock = Monotonic(Arc::clone(clock));
        Self {
            max_clients,
            swept_at: Mutex::new(clock.0.monotonic()),
            limiter: RateLimiter::new(quota.allow_burst(burst), Table::new(max_clients), clock),
        }
    }

    fn take(&self, step: Step) -> Result<(), Duration> {
        let now = self.limiter.clock().0.monotonic();
        self.limiter
            .check_key(&step)
            .map_err(|until| until.wait_time_from(now))
    }

    /// Forgets the clients whose budget is whole again, where their place is needed.
    fn sweep(&self) {
        if self.limiter.len() < self.max_clients {
            return;
        }
        let now = self.limiter.clock().0.monotonic();
        let mut swept_at = self.swept_at.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(*swept_at) >= SWEEP_PAUSE {
            *swept_at = now;
            self.limiter.retain_recent();
        }
    }
}

/// A [`Clock`] as the limiter wants it.
struct Monotonic(Arc<dyn Clock>);

impl governor::clock::Clock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

impl fmt::Debug for FailureLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailureLimit")
            .field("burst", &self.burst)
            .field("interval", &self.interval)
            .field("max_clients", &self.max_clients)
            .finish_non_exhaustive()
    }
}
