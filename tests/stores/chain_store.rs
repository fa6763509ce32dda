//! `ChainStore`: the order of its stores, and failures of a store.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::executor::block_on;
use http::{Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::digest::TokenDigest;
use tower_service_token::store::{
    Cached, ChainStore, ChangeListener, Credential, StoreError, StoreErrorKind, TokenChange,
    TokenRecord, TokenState,
};
use tower_service_token::token::{PresentedToken, TokenId};
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, TokenStore};

const TOKEN: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";

/// The result of a store, from its cache or from a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behavior {
    CachedFound,
    CachedRevoked,
    CachedNotFound,
    LookupFound,
    LookupRevoked,
    LookupNotFound,
    LookupUnavailable,
    LookupRateLimited,
    LookupCorrupt,
}

use Behavior::{
    CachedFound, CachedNotFound, CachedRevoked, LookupCorrupt, LookupFound, LookupNotFound,
    LookupRateLimited, LookupRevoked, LookupUnavailable,
};

/// A store that always returns the same result and counts its lookups.
#[derive(Clone)]
struct ScriptedStore {
    behavior: Behavior,
    name: &'static str,
    lookups: Arc<AtomicUsize>,
}

impl ScriptedStore {
    fn new(behavior: Behavior, name: &'static str) -> Self {
        let lookups = Arc::default();
        Self {
            behavior,
            name,
            lookups,
        }
    }

    fn record(&self) -> TokenRecord {
        TokenRecord::new(id(), TokenDigest::of(TOKEN)).with_name(self.name)
    }
}

#[async_trait]
impl TokenStore for ScriptedStore {
    fn find_cached(&self, _: &Credential<'_>) -> Cached {
        match self.behavior {
            CachedFound => Cached::Found(self.record()),
            CachedRevoked => Cached::Found(self.record().with_state(TokenState::Revoked)),
            CachedNotFound => Cached::NotFound,
            _ => Cached::Miss,
        }
    }

    async fn find(&self, _: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        match self.behavior {
            LookupFound => Ok(Some(self.record())),
            LookupRevoked => Ok(Some(self.record().with_state(TokenState::Revoked))),
            LookupNotFound => Ok(None),
            LookupUnavailable => Err(StoreError::unavailable(self.name)),
            LookupRateLimited => Err(StoreError::rate_limited(Duration::from_secs(7))),
            LookupCorrupt => Err(StoreError::corrupt(self.name)),
            CachedFound | CachedRevoked | CachedNotFound => panic!("the cache has the result"),
        }
    }
}

fn id() -> TokenId {
    "7Hq2mX9bTe".parse().unwrap()
}

fn credential() -> Credential<'static> {
    Credential::new(PresentedToken::new(TOKEN).unwrap())
}

fn chain(behaviors: [Behavior; 2]) -> ChainStore {
    let [first, second] = behaviors;
    ChainStore::new(ScriptedStore::new(first, "first")).then(ScriptedStore::new(second, "second"))
}

/// Returns the status and the body, which is the name of the token if the request is accepted.
async fn send(store: ChainStore) -> (StatusCode, String) {
    let inner = service_fn(async |request: Request<()>| {
        let principal = request.extensions().get::<Principal>();
        let name = principal.map(|principal| principal.name().to_owned());
        Ok::<_, Infallible>(Response::new(name.unwrap_or_default()))
    });
    let request = Request::get("/").header("x-api-key", TOKEN);
    let service = ServiceTokenLayer::new(store).layer(inner);
    let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
    (response.status(), response.into_body())
}

#[tokio::test]
async fn first_match_wins_and_failures_are_not_denials() {
    let first = (StatusCode::OK, Some("first"));
    let second = (StatusCode::OK, Some("second"));
    let denied = (StatusCode::UNAUTHORIZED, None);
    let down = (StatusCode::SERVICE_UNAVAILABLE, None);
    let limited = (StatusCode::TOO_MANY_REQUESTS, None);
    let corrupt = (StatusCode::INTERNAL_SERVER_ERROR, None);
    for (behaviors, expected) in [
        // Both stores have a cached result.
        ([CachedFound, CachedFound], first),
        ([CachedFound, CachedNotFound], first),
        ([CachedNotFound, CachedFound], second),
        ([CachedNotFound, CachedNotFound], denied),
        ([CachedRevoked, CachedFound], denied),
        ([CachedFound, CachedRevoked], first),
        ([CachedNotFound, CachedRevoked], denied),
        // Only the first store has a cached result.
        ([CachedFound, LookupUnavailable], first),
        ([CachedRevoked, LookupFound], denied),
        ([CachedNotFound, LookupFound], second),
        ([CachedNotFound, LookupNotFound], denied),
        ([CachedNotFound, LookupRevoked], denied),
        ([CachedNotFound, LookupUnavailable], down),
        ([CachedNotFound, LookupRateLimited], limited),
        ([CachedNotFound, LookupCorrupt], corrupt),
        // The first store has no cached result.
        ([LookupFound, CachedFound], first),
        ([LookupFound, LookupUnavailable], first),
        ([LookupRevoked, CachedFound], denied),
        ([LookupRevoked, LookupFound], denied),
        ([LookupNotFound, CachedFound], second),
        ([LookupNotFound, CachedRevoked], denied),
        ([LookupNotFound, CachedNotFound], denied),
        ([LookupNotFound, LookupFound], second),
        ([LookupNotFound, LookupNotFound], denied),
        ([LookupNotFound, LookupUnavailable], down),
        // The first store fails.
        ([LookupUnavailable, CachedFound], second),
        ([LookupUnavailable, CachedRevoked], denied),
        ([LookupUnavailable, CachedNotFound], down),
        ([LookupUnavailable, LookupFound], second),
        ([LookupUnavailable, LookupRevoked], denied),
        ([LookupUnavailable, LookupNotFound], down),
        ([LookupCorrupt, CachedFound], second),
        ([LookupCorrupt, CachedNotFound], corrupt),
        ([LookupRateLimited, LookupFound], second),
        ([LookupRateLimited, CachedNotFound], limited),
        // Both stores fail, so the first error is returned.
        ([LookupUnavailable, LookupUnavailable], down),
        ([LookupUnavailable, LookupRateLimited], down),
        ([LookupUnavailable, LookupCorrupt], down),
        ([LookupRateLimited, LookupUnavailable], limited),
        ([LookupCorrupt, LookupUnavailable], corrupt),
    ] {
        let (status, body) = send(chain(behaviors)).await;
        assert_eq!(status, expected.0, "{behaviors:?}: {body}");
        if let Some(name) = expected.1 {
            assert_eq!(body, name, "{behaviors:?}");
        }
    }
}

#[test]
fn find_cached_stops_at_first_miss() {
    for (behaviors, expected) in [
        ([CachedFound, LookupFound], "found first"),
        ([CachedNotFound, CachedFound], "found second"),
        ([CachedNotFound, CachedNotFound], "not found"),
        ([CachedNotFound, LookupFound], "miss"),
        // The second store has cached the token, but the first has precedence.
        ([LookupNotFound, CachedFound], "miss"),
        ([LookupUnavailable, CachedNotFound], "miss"),
    ] {
        let found = match chain(behaviors).find_cached(&credential()) {
            Cached::Found(record) => format!("found {}", record.name()),
            Cached::NotFound => "not found".to_owned(),
            Cached::Miss => "miss".to_owned(),
        };
        assert_eq!(found, expected, "{behaviors:?}");
    }
}

#[test]
fn find_returns_the_same_as_find_cached() {
    let found = block_on(chain([CachedNotFound, CachedFound]).find(&credential())).unwrap();
    assert_eq!(found.unwrap().name(), "second");
    let found = block_on(chain([CachedNotFound, CachedNotFound]).find(&credential())).unwrap();
    assert!(found.is_none());
}

#[test]
fn stops_after_match_and_continues_after_failure() {
    for (behavior, lookups) in [
        (LookupFound, 0),
        (LookupRevoked, 0),
        (LookupNotFound, 1),
        (LookupUnavailable, 1),
        (LookupCorrupt, 1),
        (LookupRateLimited, 1),
    ] {
        let second = ScriptedStore::new(LookupNotFound, "second");
        let chain = ChainStore::new(ScriptedStore::new(behavior, "first")).then(second.clone());
        let _ = block_on(chain.find(&credential()));
        assert_eq!(
            second.lookups.load(Ordering::SeqCst),
            lookups,
            "{behavior:?}"
        );
    }
}

#[test]
fn returns_first_error_with_source_and_retry_after() {
    let chain = ChainStore::new(ScriptedStore::new(LookupNotFound, "first"))
        .then(ScriptedStore::new(LookupRateLimited, "second"))
        .then(ScriptedStore::new(LookupUnavailable, "third"));
    let error = block_on(chain.find(&credential())).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::RateLimited);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));

    let chain = ChainStore::new(ScriptedStore::new(LookupUnavailable, "first"))
        .then(ScriptedStore::new(LookupUnavailable, "next"));
    let error = block_on(chain.find(&credential())).unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "first");
}

#[test]
fn forwards_changes_of_every_store() {
    #[derive(Default)]
    struct CountingListener(AtomicUsize);

    impl ChangeListener for CountingListener {
        fn changed(&self, _: &TokenChange) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    let stores = [MemoryStore::new(), MemoryStore::new(), MemoryStore::new()];
    let [first, second, third] = stores.clone();
    let chain = ChainStore::new(first).then(second).then(third);
    let listener = Arc::new(CountingListener::default());
    chain.subscribe(&(listener.clone() as Arc<dyn ChangeListener>));
    for (number, store) in stores.iter().enumerate() {
        let record = TokenRecord::new(id(), TokenDigest::of(TOKEN));
        store.insert(record).unwrap();
        assert_eq!(listener.0.load(Ordering::SeqCst), number + 1);
    }
}

#[tokio::test]
async fn later_store_decides_while_first_is_unavailable() {
    let later = MemoryStore::new();
    let record = TokenRecord::new(id(), TokenDigest::of(TOKEN)).with_name("later");
    later.insert(record).unwrap();
    for (first, expected) in [
        (LookupRevoked, StatusCode::UNAUTHORIZED),
        (LookupUnavailable, StatusCode::OK),
    ] {
        let chain = ChainStore::new(ScriptedStore::new(first, "first")).then(later.clone());
        assert_eq!(send(chain).await.0, expected);
    }
    // A token that is revoked in both stores is rejected in either case.
    later.revoke(id()).unwrap();
    let chain = ChainStore::new(ScriptedStore::new(LookupUnavailable, "first")).then(later);
    assert_eq!(send(chain).await.0, StatusCode::UNAUTHORIZED);
}

#[cfg(feature = "metrics")]
#[test]
fn counts_failures_even_if_a_later_store_responds() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        for behaviors in [
            [LookupUnavailable, CachedFound],
            [LookupUnavailable, LookupUnavailable],
            [LookupNotFound, CachedNotFound],
        ] {
            let _ = block_on(chain(behaviors).find(&credential()));
        }
    });
    let metrics_snapshot = recorder.snapshotter().snapshot().into_vec();
    let [(key, _, _, DebugValue::Counter(count))] = &metrics_snapshot[..] else {
        panic!("{metrics_snapshot:?}")
    };
    let labels: Vec<_> = key.key().labels().map(metrics::Label::value).collect();
    assert_eq!(key.key().name(), "service_token_chain_failures_total");
    assert_eq!((&*labels, *count), (&["unavailable"][..], 3));
}

#[cfg(feature = "tracing")]
#[test]
fn logs_failures_with_index_and_cause_even_if_a_later_store_responds() {
    let log = tests::log::Log::default();
    let chain = ChainStore::new(ScriptedStore::new(LookupNotFound, "first"))
        .then(ScriptedStore::new(LookupUnavailable, "no route to host"))
        .then(ScriptedStore::new(CachedFound, "third"));
    let guard = log.start();
    let found = block_on(chain.find(&credential()));
    drop(guard);
    assert_eq!(found.unwrap().unwrap().name(), "third");
    assert_eq!(
        log.text().trim(),
        "WARN tower_service_token: a store of the chain failed \
         index=1 kind=\"unavailable\" error=no route to host"
    );
}
