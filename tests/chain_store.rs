//! `ChainStore`: which store has the say, and what becomes of one that cannot look.

#[cfg(feature = "tracing")]
#[path = "support/log.rs"]
mod log;

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

/// What a store says about the token, named after where it must look for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Knows,
    KnowsRevoked,
    Lacks,
    AsksAndKnows,
    AsksAndKnowsRevoked,
    AsksAndLacks,
    IsDown,
    IsLimited,
    IsCorrupt,
}

use Says::{
    AsksAndKnows, AsksAndKnowsRevoked, AsksAndLacks, IsCorrupt, IsDown, IsLimited, Knows,
    KnowsRevoked, Lacks,
};

/// A store that says one thing, and counts how often it was asked.
#[derive(Clone)]
struct Scripted {
    says: Says,
    name: &'static str,
    asked: Arc<AtomicUsize>,
}

impl Scripted {
    fn new(says: Says, name: &'static str) -> Self {
        let asked = Arc::default();
        Self { says, name, asked }
    }

    fn record(&self) -> TokenRecord {
        TokenRecord::new(id(), TokenDigest::of(TOKEN)).with_name(self.name)
    }
}

#[async_trait]
impl TokenStore for Scripted {
    fn find_cached(&self, _: &Credential<'_>) -> Cached {
        match self.says {
            Knows => Cached::Found(self.record()),
            KnowsRevoked => Cached::Found(self.record().with_state(TokenState::Revoked)),
            Lacks => Cached::NotFound,
            _ => Cached::Ask,
        }
    }

    async fn find(&self, _: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match self.says {
            AsksAndKnows => Ok(Some(self.record())),
            AsksAndKnowsRevoked => Ok(Some(self.record().with_state(TokenState::Revoked))),
            AsksAndLacks => Ok(None),
            IsDown => Err(StoreError::unavailable(self.name)),
            IsLimited => Err(StoreError::rate_limited(Duration::from_secs(7))),
            IsCorrupt => Err(StoreError::corrupt(self.name)),
            Knows | KnowsRevoked | Lacks => panic!("memory had the answer"),
        }
    }
}

fn id() -> TokenId {
    "7Hq2mX9bTe".parse().unwrap()
}

fn credential() -> Credential<'static> {
    Credential::new(PresentedToken::new(TOKEN).unwrap())
}

fn chain(answers: [Says; 2]) -> ChainStore {
    let [first, second] = answers;
    ChainStore::new(Scripted::new(first, "first")).then(Scripted::new(second, "second"))
}

/// The status and the body; the body of an accepted request is the name of its token.
async fn answer(store: ChainStore) -> (StatusCode, String) {
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
async fn the_first_that_knows_has_the_say_and_no_failure_becomes_a_denial() {
    let first = (StatusCode::OK, Some("first"));
    let second = (StatusCode::OK, Some("second"));
    let denied = (StatusCode::UNAUTHORIZED, None);
    let down = (StatusCode::SERVICE_UNAVAILABLE, None);
    let limited = (StatusCode::TOO_MANY_REQUESTS, None);
    let corrupt = (StatusCode::INTERNAL_SERVER_ERROR, None);
    for (answers, expected) in [
        // Memory alone.
        ([Knows, Knows], first),
        ([Knows, Lacks], first),
        ([Lacks, Knows], second),
        ([Lacks, Lacks], denied),
        ([KnowsRevoked, Knows], denied),
        ([Knows, KnowsRevoked], first),
        ([Lacks, KnowsRevoked], denied),
        // The second must be asked.
        ([Knows, IsDown], first),
        ([KnowsRevoked, AsksAndKnows], denied),
        ([Lacks, AsksAndKnows], second),
        ([Lacks, AsksAndLacks], denied),
        ([Lacks, AsksAndKnowsRevoked], denied),
        ([Lacks, IsDown], down),
        ([Lacks, IsLimited], limited),
        ([Lacks, IsCorrupt], corrupt),
        // The first must be asked.
        ([AsksAndKnows, Knows], first),
        ([AsksAndKnows, IsDown], first),
        ([AsksAndKnowsRevoked, Knows], denied),
        ([AsksAndKnowsRevoked, AsksAndKnows], denied),
        ([AsksAndLacks, Knows], second),
        ([AsksAndLacks, KnowsRevoked], denied),
        ([AsksAndLacks, Lacks], denied),
        ([AsksAndLacks, AsksAndKnows], second),
        ([AsksAndLacks, AsksAndLacks], denied),
        ([AsksAndLacks, IsDown], down),
        // The first cannot look.
        ([IsDown, Knows], second),
        ([IsDown, KnowsRevoked], denied),
        ([IsDown, Lacks], down),
        ([IsDown, AsksAndKnows], second),
        ([IsDown, AsksAndKnowsRevoked], denied),
        ([IsDown, AsksAndLacks], down),
        ([IsCorrupt, Knows], second),
        ([IsCorrupt, Lacks], corrupt),
        ([IsLimited, AsksAndKnows], second),
        ([IsLimited, Lacks], limited),
        // None can look: the first error.
        ([IsDown, IsDown], down),
        ([IsDown, IsLimited], down),
        ([IsDown, IsCorrupt], down),
        ([IsLimited, IsDown], limited),
        ([IsCorrupt, IsDown], corrupt),
    ] {
        let (status, body) = answer(chain(answers)).await;
        assert_eq!(status, expected.0, "{answers:?}: {body}");
        if let Some(name) = expected.1 {
            assert_eq!(body, name, "{answers:?}");
        }
    }
}

#[test]
fn memory_answers_only_until_a_store_must_be_asked() {
    for (answers, expected) in [
        ([Knows, AsksAndKnows], "found first"),
        ([Lacks, Knows], "found second"),
        ([Lacks, Lacks], "not found"),
        ([Lacks, AsksAndKnows], "ask"),
        // The second knows already, and the first has the say nevertheless.
        ([AsksAndLacks, Knows], "ask"),
        ([IsDown, Lacks], "ask"),
    ] {
        let told = match chain(answers).find_cached(&credential()) {
            Cached::Found(record) => format!("found {}", record.name()),
            Cached::NotFound => "not found".to_owned(),
            Cached::Ask => "ask".to_owned(),
        };
        assert_eq!(told, expected, "{answers:?}");
    }
}

#[test]
fn asking_finds_what_memory_finds() {
    let found = block_on(chain([Lacks, Knows]).find(&credential())).unwrap();
    assert_eq!(found.unwrap().name(), "second");
    let found = block_on(chain([Lacks, Lacks]).find(&credential())).unwrap();
    assert!(found.is_none());
}

#[test]
fn a_store_behind_the_one_that_knows_is_not_asked_and_one_behind_a_failure_is() {
    for (says, asked) in [
        (AsksAndKnows, 0),
        (AsksAndKnowsRevoked, 0),
        (AsksAndLacks, 1),
        (IsDown, 1),
        (IsCorrupt, 1),
        (IsLimited, 1),
    ] {
        let second = Scripted::new(AsksAndLacks, "second");
        let chain = ChainStore::new(Scripted::new(says, "first")).then(second.clone());
        let _ = block_on(chain.find(&credential()));
        assert_eq!(second.asked.load(Ordering::SeqCst), asked, "{says:?}");
    }
}

#[test]
fn of_several_failures_the_first_is_told_with_its_source_and_its_retry_after() {
    let chain = ChainStore::new(Scripted::new(AsksAndLacks, "first"))
        .then(Scripted::new(IsLimited, "second"))
        .then(Scripted::new(IsDown, "third"));
    let error = block_on(chain.find(&credential())).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::RateLimited);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));

    let chain = ChainStore::new(Scripted::new(IsDown, "first")).then(Scripted::new(IsDown, "next"));
    let error = block_on(chain.find(&credential())).unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "first");
}

#[test]
fn changes_of_every_store_reach_the_listener() {
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl ChangeListener for Count {
        fn changed(&self, _: &TokenChange) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    let stores = [MemoryStore::new(), MemoryStore::new(), MemoryStore::new()];
    let [first, second, third] = stores.clone();
    let chain = ChainStore::new(first).then(second).then(third);
    let count = Arc::new(Count::default());
    chain.subscribe(&(count.clone() as Arc<dyn ChangeListener>));
    for (number, store) in stores.iter().enumerate() {
        let record = TokenRecord::new(id(), TokenDigest::of(TOKEN));
        store.insert(record).unwrap();
        assert_eq!(count.0.load(Ordering::SeqCst), number + 1);
    }
}

#[tokio::test]
async fn a_token_revoked_in_an_unavailable_first_store_passes_by_a_later_one_as_documented() {
    let later = MemoryStore::new();
    let record = TokenRecord::new(id(), TokenDigest::of(TOKEN)).with_name("later");
    later.insert(record).unwrap();
    for (first, expected) in [
        (AsksAndKnowsRevoked, StatusCode::UNAUTHORIZED),
        (IsDown, StatusCode::OK),
    ] {
        let chain = ChainStore::new(Scripted::new(first, "first")).then(later.clone());
        assert_eq!(answer(chain).await.0, expected);
    }
    // Revoked wherever it is kept, it is refused in either case.
    later.revoke(id()).unwrap();
    let chain = ChainStore::new(Scripted::new(IsDown, "first")).then(later);
    assert_eq!(answer(chain).await.0, StatusCode::UNAUTHORIZED);
}

/// Nobody else sees it: the client gets 200.
#[cfg(feature = "metrics")]
#[test]
fn a_failure_that_a_later_store_makes_up_for_is_counted() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        for answers in [[IsDown, Knows], [IsDown, IsDown], [AsksAndLacks, Lacks]] {
            let _ = block_on(chain(answers).find(&credential()));
        }
    });
    let counted = recorder.snapshotter().snapshot().into_vec();
    let [(key, _, _, DebugValue::Counter(count))] = &counted[..] else {
        panic!("{counted:?}")
    };
    let labels: Vec<_> = key.key().labels().map(metrics::Label::value).collect();
    assert_eq!(key.key().name(), "service_token_chain_failures_total");
    assert_eq!((&*labels, *count), (&["unavailable"][..], 3));
}

#[cfg(feature = "tracing")]
#[test]
fn a_failure_that_a_later_store_makes_up_for_is_logged_with_its_place_and_its_cause() {
    let log = log::Log::default();
    let chain = ChainStore::new(Scripted::new(AsksAndLacks, "first"))
        .then(Scripted::new(IsDown, "no route to host"))
        .then(Scripted::new(Knows, "third"));
    let guard = log.start();
    let found = block_on(chain.find(&credential()));
    drop(guard);
    assert_eq!(found.unwrap().unwrap().name(), "third");
    assert_eq!(
        log.text().trim(),
        "WARN tower_service_token: a store of the chain could not look \
         place=1 kind=\"unavailable\" error=no route to host"
    );
}
