//! Two tenants share a watcher: the streams of one do not end or delay those of the other.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
#[cfg(feature = "tracing")]
use tests::events::{Events, assert_fields};
use tokio::time::{Instant, sleep, timeout};
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{IssuedToken, NewToken, TokenUpdate};
use tower_service_token::reject::RejectionReason;
use tower_service_token::store::{ChangeListener, Credential, StoreError, TokenRecord};
use tower_service_token::streams::{
    PrincipalEnd, PrincipalWatch, PrincipalWatcher, StreamLimits, TooManyStreams,
};
use tower_service_token::token::TokenId;
use tower_service_token::{MemoryStore, Principal, TokenStore};

use super::fixture::{Fixture, principal_of};

const SECOND: Duration = Duration::from_secs(1);

/// Far more than four at a time serve within the bound of 10 s.
const MANY: usize = 2_000;

/// The time of a lookup: 200 lookups per second, and 2,000 within the bound.
const LATENCY: Duration = Duration::from_millis(20);

/// Takes [`LATENCY`] for each lookup, or hangs for the tokens of one owner.
#[derive(Clone)]
struct Slow {
    store: MemoryStore,
    hangs_for: Option<&'static str>,
    reports_changes: bool,
}

#[async_trait]
impl TokenStore for Slow {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.store.find(credential).await
    }

    async fn find_again(
        &self,
        id: TokenId,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        sleep(LATENCY).await;
        let found = self.store.find_again(id, digest).await;
        let owner = found.iter().flatten().next().and_then(TokenRecord::owner);
        if owner.is_some() && owner == self.hangs_for {
            std::future::pending::<()>().await;
        }
        found
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        if self.reports_changes {
            self.store.subscribe(listener);
        }
    }

    fn reports_changes(&self) -> bool {
        self.reports_changes
    }
}

/// Two tenants, a watcher, and one stream of each token.
struct Tenants {
    fixture: Fixture,
    watcher: PrincipalWatcher,
    many: Vec<(TokenId, PrincipalWatch)>,
    few: Vec<(TokenId, PrincipalWatch)>,
}

async fn create(fixture: &Fixture, name: String, owner: Option<&str>) -> (IssuedToken, Principal) {
    let mut new = NewToken::new(name);
    if let Some(owner) = owner {
        new = new.with_owner(owner);
    }
    let issued = fixture.tokens().create(new).await.unwrap();
    let token = issued.expose_secret();
    let caller = principal_of(&fixture.store, token, &fixture.clock).await;
    (issued, caller)
}

impl Tenants {
    async fn open(store: impl FnOnce(MemoryStore) -> Slow) -> Self {
        let fixture = Fixture::new().await;
        let store = store(fixture.store.clone());
        let watcher = PrincipalWatcher::builder(store)
            .with_clock(fixture.clock.clone())
            .build();
        let mut tenants = Self {
            fixture,
            watcher,
            many: Vec::new(),
            few: Vec::new(),
        };
        for number in 0..MANY {
            let opened = tenants.stream(format!("many {number}"), Some("many")).await;
            tenants.many.push(opened);
        }
        for number in 0..3 {
            let opened = tenants.stream(format!("few {number}"), Some("few")).await;
            tenants.few.push(opened);
        }
        // A token without an owner is a tenant of its own.
        let opened = tenants.stream("alone".to_owned(), None).await;
        tenants.few.push(opened);
        tenants
    }

    async fn stream(&self, name: String, owner: Option<&str>) -> (TokenId, PrincipalWatch) {
        let (issued, caller) = create(&self.fixture, name, owner).await;
        (issued.record().id(), self.watcher.watch(&caller).unwrap())
    }

    fn assert_few_are_open(&self) {
        for (place, (_, watch)) in self.few.iter().enumerate() {
            assert!(!watch.has_ended(), "{place}: {watch:?}");
        }
    }

    async fn change_many(&self, description: &str) {
        for (id, _) in &self.many {
            let update = TokenUpdate::new().with_description(description);
            self.fixture.tokens().update(*id, update).await.unwrap();
        }
    }

    /// Revokes the tokens of the small tenants, and returns when the last stream ended.
    async fn revoke_few(&self) -> Duration {
        let started = Instant::now();
        for (id, _) in &self.few {
            self.fixture.tokens().revoke(*id).await.unwrap();
        }
        for (_, watch) in &self.few {
            let end = timeout(60 * SECOND, watch.ended()).await;
            assert_eq!(end, Ok(PrincipalEnd::Revoked));
        }
        started.elapsed()
    }
}

/// The large tenant needs twice the lookups that the store can serve. Only its own streams suffer.
#[tokio::test(start_paused = true)]
async fn polling_for_one_tenant_does_not_end_streams_of_another() {
    let tenants = Tenants::open(|store| Slow {
        store,
        hangs_for: None,
        reports_changes: false,
    });
    let tenants = tenants.await;
    sleep(60 * SECOND).await;
    tenants.assert_few_are_open();
    let many = tenants.many.iter();
    let unavailable = many.filter(|(_, watch)| watch.has_ended()).count();
    assert!(unavailable > 0, "the store is not overloaded");
    let elapsed = tenants.revoke_few().await;
    assert!(elapsed < 6 * SECOND, "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn changes_of_one_tenant_do_not_delay_those_of_another() {
    let tenants = Tenants::open(|store| Slow {
        store,
        hangs_for: None,
        reports_changes: true,
    });
    let tenants = tenants.await;
    sleep(15 * SECOND).await;
    tenants.assert_few_are_open();
    for round in 0..5 {
        tenants.change_many(&round.to_string()).await;
        sleep(SECOND).await;
    }
    let elapsed = tenants.revoke_few().await;
    assert!(elapsed < 10 * LATENCY, "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn lookups_that_hang_for_one_tenant_do_not_delay_another() {
    let tenants = Tenants::open(|store| Slow {
        store,
        hangs_for: Some("many"),
        reports_changes: true,
    });
    let tenants = tenants.await;
    sleep(SECOND).await;
    let elapsed = tenants.revoke_few().await;
    assert!(elapsed < 10 * LATENCY, "{elapsed:?}");
}

fn watcher_with(fixture: &Fixture, limits: StreamLimits) -> PrincipalWatcher {
    PrincipalWatcher::builder(fixture.store.clone())
        .with_clock(fixture.clock.clone())
        .with_limits(limits)
        .build()
}

/// Returns which limit rejects another stream.
fn rejected(watcher: &PrincipalWatcher, caller: &Principal) -> TooManyStreams {
    let rejection = watcher.watch(caller).unwrap_err();
    assert_eq!(rejection.reason(), RejectionReason::TooManyStreams);
    assert_eq!(rejection.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(rejection.code(), "rate_limited");
    assert_eq!(rejection.detail(), "too many open streams");
    assert_eq!(rejection.retry_after(), Some(10 * SECOND));
    assert_eq!(rejection.token_id(), Some(caller.id()));
    let source = std::error::Error::source(&rejection).unwrap();
    *source.downcast_ref().unwrap()
}

#[tokio::test(start_paused = true)]
async fn open_streams_are_limited_for_each_token_and_each_owner() {
    let fixture = Fixture::new().await;
    let limits = StreamLimits::new().with_per_token(2).with_per_owner(3);
    let watcher = watcher_with(&fixture, limits);
    let mut callers = Vec::new();
    for (name, owner) in [("a", "one"), ("b", "one"), ("c", "other")] {
        callers.push(create(&fixture, name.to_owned(), Some(owner)).await.1);
    }
    let [a, b, c] = &callers[..] else { panic!() };
    let first = watcher.watch(a).unwrap();
    let _second = watcher.watch(a).unwrap();
    assert_eq!(rejected(&watcher, a), TooManyStreams::PerToken);
    let _third = watcher.watch(b).unwrap();
    let of_owner = TooManyStreams::PerOwner;
    assert_eq!(rejected(&watcher, b), of_owner);
    // Clones count together, and other tenants are not affected.
    assert_eq!(rejected(&watcher.clone(), b), of_owner);
    let others = [watcher.watch(c).unwrap(), watcher.watch(c).unwrap()];
    // A stream that was closed makes room, even if its principal ended.
    drop(first);
    let again = watcher.watch(b).unwrap();
    assert_eq!(rejected(&watcher, a), of_owner);
    fixture.tokens().revoke(b.id()).await.unwrap();
    again.ended().await;
    assert_eq!(rejected(&watcher, a), of_owner);
    drop(again);
    let _last = watcher.watch(a).unwrap();
    drop(others);
    for _ in 0..10 {
        drop([watcher.watch(c).unwrap(), watcher.watch(c).unwrap()]);
    }
}

#[tokio::test(start_paused = true)]
async fn open_streams_are_limited_in_total() {
    let fixture = Fixture::new().await;
    let limits = StreamLimits::new().with_per_owner(2).with_total(3);
    let watcher = watcher_with(&fixture, limits);
    let (_, owned) = create(&fixture, "owned".to_owned(), Some("one")).await;
    let (_, other) = create(&fixture, "other".to_owned(), Some("two")).await;
    let (_, alone) = create(&fixture, "alone".to_owned(), None).await;
    let _first = watcher.watch(&owned).unwrap();
    let second = watcher.watch(&owned).unwrap();
    assert_eq!(rejected(&watcher, &owned), TooManyStreams::PerOwner);
    let _third = watcher.watch(&alone).unwrap();
    for caller in [&alone, &other] {
        assert_eq!(rejected(&watcher, caller), TooManyStreams::InTotal);
    }
    // A stream that was closed makes room for any tenant. A rejected one takes none.
    drop(second);
    let _fourth = watcher.watch(&other).unwrap();
    for caller in [&owned, &alone, &other] {
        assert_eq!(rejected(&watcher, caller), TooManyStreams::InTotal);
    }
}

/// Tokens without an owner share only the limit in total.
#[tokio::test(start_paused = true)]
async fn streams_of_tokens_without_an_owner_are_limited_for_each_token() {
    let fixture = Fixture::new().await;
    let limits = StreamLimits::new().with_per_token(1).with_per_owner(0);
    let watcher = watcher_with(&fixture, limits);
    let mut opened = Vec::new();
    for number in 0..20 {
        let caller = create(&fixture, number.to_string(), None).await.1;
        opened.push(watcher.watch(&caller).unwrap());
        rejected(&watcher, &caller);
    }
    let (_, owned) = create(&fixture, "owned".to_owned(), Some("one")).await;
    rejected(&watcher, &owned);
}

#[tokio::test(start_paused = true)]
async fn default_limits_are_1_000_streams_of_a_token_and_10_000_of_an_owner() {
    let fixture = Fixture::new().await;
    let watcher = PrincipalWatcher::new(fixture.store.clone());
    let mut opened = Vec::new();
    for number in 0..10 {
        let (_, caller) = create(&fixture, number.to_string(), Some("one")).await;
        opened.extend((0..1_000).map(|_| watcher.watch(&caller).unwrap()));
        rejected(&watcher, &caller);
    }
    let (_, caller) = create(&fixture, "last".to_owned(), Some("one")).await;
    assert_eq!(rejected(&watcher, &caller), TooManyStreams::PerOwner);
    let limits = StreamLimits::default();
    assert_eq!((limits.per_token(), limits.per_owner()), (1_000, 10_000));
    assert_eq!(limits.total(), 100_000);
}

#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn rejections_of_the_watcher_are_logged_once() {
    let fixture = Fixture::new().await;
    let watcher = watcher_with(&fixture, StreamLimits::new().with_per_token(0));
    let caller = fixture.principal().await;
    let events = Events::default();
    {
        let _guard = events.start();
        rejected(&watcher, &caller);
    }
    let id = caller.id().to_string();
    let expected = [
        ("reason", "too_many_streams"),
        ("status", "429"),
        ("token_id", &id),
        ("error", "the token has too many open streams"),
    ];
    assert_fields(&events.only(), &expected);
}
