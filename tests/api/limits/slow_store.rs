//! Floods of unknown tokens that exceed the lookup rate of the store, in paused time.

use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use http::Response;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep};
use tower_service_token::store::{CachedStore, Credential, StoreError, TokenRecord, TokenStore};
use tower_service_token::testing::Fault;
use tower_service_token::{MemoryStore, ServiceTokenLayer};

use crate::limits::{LimitedService, SECOND, TokioClock, limit, mint, unknown};

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));
const MILLISECOND: Duration = Duration::from_millis(1);

/// A database with ten connections, on each of which a lookup takes 8 ms: 1,250 per second.
struct Database {
    tokens: MemoryStore,
    connections: Semaphore,
}

const DATABASE_LOOKUPS_PER_SECOND: usize = 1_250;

#[async_trait]
impl TokenStore for Database {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        let connection = self.connections.acquire().await;
        sleep(8 * MILLISECOND).await;
        let found = self.tokens.find(credential).await;
        drop(connection);
        found
    }
}

struct Fixture {
    tokens: MemoryStore,
    layer: ServiceTokenLayer,
}

impl Fixture {
    fn new() -> Self {
        let tokens = MemoryStore::new();
        let database = Database {
            tokens: tokens.clone(),
            connections: Semaphore::new(10),
        };
        // With this short TTL, accepted tokens are looked up repeatedly, too.
        let store = CachedStore::new(database)
            .with_clock(TokioClock(Instant::now()))
            .with_ttl(10 * MILLISECOND);
        let layer = ServiceTokenLayer::new(store).with_failure_limit(limit());
        Self { tokens, layer }
    }

    fn token(&self) -> String {
        let token = mint();
        self.tokens.insert(TokenRecord::from(&token)).unwrap();
        token.expose_secret().to_owned()
    }

    async fn send(&self, address: IpAddr, token: &str) -> Response<String> {
        crate::limits::send(&self.layer, address, token).await
    }
}

/// The statuses of requests during a flood of 3,000 unknown tokens per second from [`ADDRESS`] for
/// three seconds.
struct Outcome {
    /// The statuses for the unknown tokens.
    unknown: Vec<u16>,
    /// The statuses for a token that was accepted before the flood, from [`ADDRESS`].
    remembered: Vec<u16>,
    slowest_remembered: Duration,
    /// The statuses for first uses of valid tokens, from `first_uses_from`.
    first_uses: Vec<u16>,
}

/// Runs the flood. If `resets` is true, each request of the flood is dropped after 1 ms.
async fn flood(first_uses_from: IpAddr, resets: bool) -> Outcome {
    let fixture = Arc::new(Fixture::new());
    let known = fixture.token();
    assert_eq!(fixture.send(ADDRESS, &known).await.status(), 200);
    let (mut unknown_tokens, mut remembered, mut first_uses) =
        (JoinSet::new(), JoinSet::new(), JoinSet::new());
    for millisecond in 0..3_000 {
        for _ in 0..3 {
            let request = crate::limits::send(&fixture.layer, ADDRESS, &unknown());
            unknown_tokens.spawn(async move {
                let request_timeout = if resets { MILLISECOND } else { 60 * SECOND };
                let response = tokio::time::timeout(request_timeout, request).await;
                response.map_or(0, |response| response.status().as_u16())
            });
        }
        if millisecond % 30 == 10 {
            let (fixture, known, first) = (Arc::clone(&fixture), known.clone(), fixture.token());
            let request = crate::limits::send(&fixture.layer, first_uses_from, &first);
            first_uses.spawn(async move { request.await.status().as_u16() });
            remembered.spawn(async move {
                let started = Instant::now();
                let status = fixture.send(ADDRESS, &known).await.status().as_u16();
                (status, started.elapsed())
            });
        }
        sleep(MILLISECOND).await;
    }
    let remembered = remembered.join_all().await;
    Outcome {
        unknown: unknown_tokens.join_all().await,
        slowest_remembered: remembered.iter().map(|it| it.1).max().unwrap(),
        remembered: remembered.iter().map(|it| it.0).collect(),
        first_uses: first_uses.join_all().await,
    }
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|it| **it == status).count()
}

#[tokio::test(start_paused = true)]
async fn flood_beyond_the_store_rate_does_not_limit_remembered_tokens_or_other_addresses() {
    let outcome = flood(OTHER, false).await;
    assert_eq!(outcome.remembered, [200; 100]);
    // At most 32 lookups of unknown tokens are ahead of it, and the database runs ten at a time.
    let slowest = outcome.slowest_remembered;
    assert!(slowest <= 48 * MILLISECOND, "{slowest:?}");
    assert_eq!(outcome.first_uses, [200; 100]);
    let (looked_up, rejected) = (count(&outcome.unknown, 401), count(&outcome.unknown, 429));
    assert_eq!(
        looked_up + rejected,
        outcome.unknown.len(),
        "every status is 401 or 429"
    );
    // The store stays busy until the flood and its queue have ended.
    assert!(
        looked_up >= 3 * DATABASE_LOOKUPS_PER_SECOND - 300,
        "{looked_up}"
    );
    assert!(
        looked_up <= 5 * DATABASE_LOOKUPS_PER_SECOND + 100,
        "{looked_up}"
    );
}

#[tokio::test(start_paused = true)]
async fn first_uses_from_the_flooding_address_share_its_rate() {
    let outcome = flood(ADDRESS, false).await;
    assert_eq!(outcome.remembered, [200; 100]);
    let (accepted, rejected) = (
        count(&outcome.first_uses, 200),
        count(&outcome.first_uses, 429),
    );
    assert_eq!(accepted + rejected, 100, "{:?}", outcome.first_uses);
    // The store serves 1,250 of 3,000 lookups per second.
    assert!(accepted >= 40, "{accepted}");
}

#[tokio::test(start_paused = true)]
async fn reset_requests_do_not_exceed_the_concurrency_limit() {
    let outcome = flood(OTHER, true).await;
    assert_eq!(outcome.remembered, [200; 100]);
    let slowest = outcome.slowest_remembered;
    assert!(slowest <= 48 * MILLISECOND, "{slowest:?}");
    assert_eq!(outcome.first_uses, [200; 100]);
}

fn one_at_a_time() -> LimitedService {
    LimitedService::new(limit().with_max_concurrent_lookups(NonZeroUsize::MIN))
}

#[tokio::test(start_paused = true)]
async fn lookup_waits_for_the_previous_one_to_end() {
    let service = one_at_a_time();
    service
        .store
        .inject(Fault::Delay(Duration::from_millis(700)));
    let started = Instant::now();
    let mut lookups = JoinSet::new();
    for _ in 0..4 {
        lookups.spawn(service.send(ADDRESS, &unknown()));
    }
    let mut ends = Vec::new();
    while let Some(response) = lookups.join_next().await {
        let status = response.unwrap().status().as_u16();
        ends.push((status, started.elapsed().as_millis() / 10));
    }
    // The last lookup does not start within 2 s.
    ends.sort_unstable();
    assert_eq!(ends, [(401, 70), (401, 140), (401, 210), (429, 200)]);
    assert_eq!(service.store.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn abandoned_lookup_holds_its_permit_for_up_to_5_s() {
    for (fault, held_for) in [
        (Fault::Delay(Duration::from_millis(700)), 700),
        (Fault::Hang, 5_000),
    ] {
        let service = one_at_a_time();
        service.store.inject(fault);
        let dropped = service.send(ADDRESS, &unknown());
        assert!(dropped.now_or_never().is_none());
        service.store.clear_fault();
        tokio::task::yield_now().await;
        advance(Duration::from_millis(held_for - 100)).await;
        let (status, waited) = service.timed(OTHER, &service.token()).await;
        assert_eq!(status, 200);
        let waited = waited.as_millis();
        assert!((99..=102).contains(&waited), "{waited}");
    }
}

#[tokio::test(start_paused = true)]
async fn panicking_lookup_releases_its_permit() {
    struct Panics;

    #[async_trait]
    impl TokenStore for Panics {
        async fn find(&self, _: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
            tokio::task::yield_now().await;
            panic!("a store that panics")
        }
    }

    let limit = limit().with_max_concurrent_lookups(NonZeroUsize::MIN);
    let layer = ServiceTokenLayer::new(Panics).with_failure_limit(limit);
    for _ in 0..3 {
        let lookup = tokio::spawn(crate::limits::send(&layer, ADDRESS, &unknown()));
        assert!(lookup.await.unwrap_err().is_panic());
    }
}

#[tokio::test(start_paused = true)]
async fn max_concurrent_lookups_is_configurable() {
    let limit = limit()
        .with_max_lookups_per_second(NonZeroU32::new(10_000).unwrap())
        .with_max_concurrent_lookups(NonZeroUsize::new(50).unwrap());
    let service = LimitedService::new(limit);
    service.store.inject(Fault::Delay(SECOND));
    let mut lookups = JoinSet::new();
    for _ in 0..60 {
        lookups.spawn(service.send(ADDRESS, &unknown()));
    }
    sleep(MILLISECOND * 10).await;
    assert_eq!(service.store.calls(), 50);
    lookups.join_all().await;
    assert_eq!(service.store.calls(), 60);
}
