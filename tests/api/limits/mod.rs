//! Failure and lookup limits per client, and the client's address in audit events and logs.

mod addresses;
mod endpoints;
mod lookups;
mod slow_store;

use std::convert::Infallible;
use std::future::ready;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::clock::Clock;
use tower_service_token::limits::{FailureLimit, PeerAddress};
use tower_service_token::store::TokenRecord;
use tower_service_token::testing::FaultyStore;
use tower_service_token::token::{MintedToken, TokenFormat};
use tower_service_token::{MemoryStore, ServiceTokenLayer};

const SECOND: Duration = Duration::from_secs(1);

/// A token with a wrong checksum.
const DAMAGED: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0m";

/// A clock that follows the paused time of the test's runtime.
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + SECOND * 1_800_000_000 + self.0.elapsed()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

fn limit() -> FailureLimit {
    FailureLimit::new().with_clock(TokioClock(Instant::now()))
}

/// Returns a limit of one lookup per second and one failure per hour.
fn slow_limit() -> FailureLimit {
    let limit = limit().with_max_lookups_per_second(NonZeroU32::MIN);
    limit
        .with_burst(NonZeroU32::MIN)
        .with_interval(SECOND * 3600)
}

fn mint() -> MintedToken {
    TokenFormat::default().mint().unwrap()
}

fn unknown() -> String {
    mint().expose_secret().to_owned()
}

/// A store without a cache behind a layer with a failure limit.
#[derive(Clone)]
struct LimitedService {
    memory: MemoryStore,
    store: FaultyStore<MemoryStore>,
    layer: ServiceTokenLayer,
}

impl LimitedService {
    fn new(limit: FailureLimit) -> Self {
        let memory = MemoryStore::new();
        let store = FaultyStore::new(memory.clone());
        let layer = ServiceTokenLayer::new(store.clone()).with_failure_limit(limit);
        Self {
            memory,
            store,
            layer,
        }
    }

    /// Inserts a new valid token and returns its secret.
    fn token(&self) -> String {
        let token = mint();
        self.memory.insert(TokenRecord::from(&token)).unwrap();
        token.expose_secret().to_owned()
    }

    /// Sends a request from this address with this token.
    fn send(&self, address: IpAddr, token: &str) -> BoxFuture<'static, Response<String>> {
        send(&self.layer, address, token)
    }

    /// Sends a request and returns its status and its duration.
    async fn timed(&self, address: IpAddr, token: &str) -> (u16, Duration) {
        let started = Instant::now();
        let response = self.send(address, token).await;
        (response.status().as_u16(), started.elapsed())
    }
}

fn send(
    layer: &ServiceTokenLayer,
    address: IpAddr,
    token: &str,
) -> BoxFuture<'static, Response<String>> {
    let inner = service_fn(|_: Request<String>| {
        ready(Ok::<_, Infallible>(Response::new("served".to_owned())))
    });
    let mut request = Request::builder().header("x-api-key", token);
    let extensions = request.extensions_mut().unwrap();
    extensions.insert(PeerAddress(SocketAddr::new(address, 4000)));
    let request = request.body(String::new()).unwrap();
    let response = layer.layer(inner).oneshot(request);
    async { response.await.unwrap_or_else(|never| match never {}) }.boxed()
}
