//! Shared lookups: cancellation, errors, panics, timeouts, limits and metrics.

use std::time::Duration;

use futures::future::join_all;
use http::header::RETRY_AFTER;
use tests::time_steps::run_other_tasks;
use tower_service_token::MemoryStore;
use tower_service_token::digest::TokenDigest;
use tower_service_token::reject::RejectionReason;
use tower_service_token::store::{
    Cached, CachedStore, Credential, StoreErrorKind, TokenRecord, TokenStore,
};
use tower_service_token::token::PresentedToken;

use crate::node::{
    MILLISECOND, Node, OK, SECOND, UNAUTHORIZED, UNAVAILABLE, clock, insert_token, mint,
};
use crate::remote_store::{Fault, RemoteStore};

#[tokio::test]
async fn concurrent_misses_share_one_lookup() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let node = Node::new(&remote, &clock());
    for (token, expected) in [(insert_token(&tokens), OK), (mint(), UNAUTHORIZED)] {
        let before = remote.lookups();
        remote.before_read().close();
        let requests: Vec<_> = (0..1000).map(|_| node.spawn(&token)).collect();
        remote.before_read().wait_until_reached().await;
        run_other_tasks().await;
        remote.before_read().reopen();
        remote.before_read().resume_one();
        for status in join_all(requests).await {
            assert_eq!(status.unwrap(), expected);
        }
        assert_eq!(remote.lookups() - before, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn misses_on_several_threads_share_one_lookup() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let node = Node::new(&remote, &clock());
    let token = insert_token(&tokens);
    let requests = (0..1000).map(|_| node.spawn(&token));
    for status in join_all(requests).await {
        assert_eq!(status.unwrap(), OK);
    }
    assert_eq!(remote.lookups(), 1);
}

#[tokio::test]
async fn dropping_first_caller_does_not_affect_waiters() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let node = Node::new(&remote, &clock());
    let token = insert_token(&tokens);
    remote.before_read().close();
    let first = node.spawn(&token);
    remote.before_read().wait_until_reached().await;
    let others: Vec<_> = (0..10).map(|_| node.spawn(&token)).collect();
    run_other_tasks().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    remote.before_read().resume_one();
    for status in join_all(others).await {
        assert_eq!(status.unwrap(), OK);
    }
    assert_eq!(remote.lookups(), 1);
}

#[tokio::test]
async fn caches_result_after_all_callers_are_dropped() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let node = Node::new(&remote, &clock());
    let token = insert_token(&tokens);
    remote.before_read().close();
    let callers: Vec<_> = (0..10).map(|_| node.spawn(&token)).collect();
    remote.before_read().wait_until_reached().await;
    run_other_tasks().await;
    for caller in callers {
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
    }
    assert!(matches!(node.find_cached(&token), Cached::Miss));
    remote.before_read().resume_one();
    run_other_tasks().await;
    assert!(matches!(node.find_cached(&token), Cached::Found(_)));
    assert_eq!(node.status(&token).await, OK);
    assert_eq!(remote.lookups(), 1);
}

#[tokio::test]
async fn error_is_503_for_all_waiters_and_not_cached() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let node = Node::new(&remote, &clock());
    for token in [insert_token(&tokens), mint()] {
        let before = remote.lookups();
        remote.set_fault(Fault::Down);
        remote.before_read().close();
        let requests: Vec<_> = (0..10).map(|_| node.spawn(&token)).collect();
        remote.before_read().wait_until_reached().await;
        run_other_tasks().await;
        remote.before_read().reopen();
        remote.before_read().resume_one();
        for status in join_all(requests).await {
            assert_eq!(status.unwrap(), UNAVAILABLE);
        }
        assert_eq!(remote.lookups() - before, 1);
        assert!(matches!(node.find_cached(&token), Cached::Miss));
        assert_eq!(node.cached.occupancy().in_flight, 0);
        // The next request starts another lookup.
        let reason = node.rejection_reason(&token).await;
        assert_eq!(reason, Some(RejectionReason::StoreUnavailable));
        assert_eq!(remote.lookups() - before, 2);
        remote.set_fault(Fault::None);
        let status = node.status(&token).await;
        assert!([OK, UNAUTHORIZED].contains(&status), "{status}");
        assert_eq!(remote.lookups() - before, 3);
    }
}

#[tokio::test]
async fn store_panic_fails_only_waiting_requests() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let node = Node::new(&remote, &clock());
    let token = insert_token(&tokens);
    remote.set_fault(Fault::Panic);
    let requests: Vec<_> = (0..10).map(|_| node.spawn(&token)).collect();
    for status in join_all(requests).await {
        assert_eq!(status.unwrap(), UNAVAILABLE);
    }
    assert_eq!(remote.lookups(), 1);
    assert_eq!(node.cached.occupancy().in_flight, 0);
    remote.set_fault(Fault::None);
    assert_eq!(node.status(&token).await, OK);
}

#[tokio::test]
async fn lookups_above_limit_wait_then_fail_as_unavailable() {
    tokio::time::pause();
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let cached = CachedStore::new(remote.clone()).with_max_in_flight(2);
    let node = Node::with_cache(cached, &clock());
    let (one, two, three) = (
        insert_token(&tokens),
        insert_token(&tokens),
        insert_token(&tokens),
    );
    remote.before_read().close();
    let running = [node.spawn(&one), node.spawn(&two)];
    for _ in &running {
        remote.before_read().wait_until_reached().await;
    }
    let started = tokio::time::Instant::now();
    let response = node.send(three.expose_secret()).await;
    assert!((SECOND..SECOND + 2 * MILLISECOND).contains(&started.elapsed()));
    assert_eq!(response.status(), UNAVAILABLE);
    assert_eq!(response.headers()[RETRY_AFTER], "1");
    assert_eq!(remote.lookups(), 2);

    // Joining a running lookup needs no permit. A waiting request gets the first free permit.
    let joining = node.spawn(&one);
    let waiting = [node.spawn(&three), node.spawn(&three)];
    run_other_tasks().await;
    remote.before_read().reopen();
    remote.before_read().resume_one();
    remote.before_read().resume_one();
    for request in running.into_iter().chain([joining]).chain(waiting) {
        assert_eq!(request.await.unwrap(), OK);
    }
    assert_eq!(remote.lookups(), 3);
}

#[tokio::test]
async fn lookup_timeout_returns_unavailable() {
    tokio::time::pause();
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let cached = CachedStore::new(remote.clone()).with_lookup_timeout(3 * SECOND);
    let node = Node::with_cache(cached, &clock());
    let token = insert_token(&tokens);
    remote.set_fault(Fault::Hang);
    let started = tokio::time::Instant::now();
    assert_eq!(node.status(&token).await, UNAVAILABLE);
    assert!((3 * SECOND..3 * SECOND + 2 * MILLISECOND).contains(&started.elapsed()));
    assert_eq!(node.cached.occupancy().in_flight, 0);
    remote.set_fault(Fault::None);
    assert_eq!(node.status(&token).await, OK);
}

#[test]
fn without_runtime_hits_succeed_and_misses_are_unavailable() {
    let tokens = MemoryStore::new();
    let node = Node::new(&RemoteStore::new(&tokens), &clock());
    let token = insert_token(&tokens);
    let find = || {
        let presented = PresentedToken::new(token.expose_secret()).unwrap();
        let credential = Credential::new(presented);
        futures::executor::block_on(node.cached.find(&credential))
    };
    assert_eq!(find().unwrap_err().kind(), StoreErrorKind::Unavailable);
    let runtime = tokio::runtime::Builder::new_current_thread();
    let status = build_runtime(runtime).block_on(node.status(&token));
    assert_eq!(status, OK);
    assert!(matches!(node.find_cached(&token), Cached::Found(_)));
}

fn build_runtime(mut builder: tokio::runtime::Builder) -> tokio::runtime::Runtime {
    builder.enable_all().build().unwrap()
}

#[test]
fn runtime_shutdown_fails_lookups_and_keeps_cache_usable() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let node = Node::new(&remote, &clock());
    let token = insert_token(&tokens);
    remote.before_read().close();
    let runtime = build_runtime(tokio::runtime::Builder::new_current_thread());
    runtime.block_on(async {
        let _request = node.spawn(&token);
        remote.before_read().wait_until_reached().await;
    });
    assert_eq!(node.cached.occupancy().in_flight, 1);
    drop(runtime);
    assert_eq!(node.cached.occupancy().in_flight, 0);
    remote.before_read().reopen();
    let runtime = build_runtime(tokio::runtime::Builder::new_current_thread());
    assert_eq!(runtime.block_on(node.status(&token)), OK);
}

#[test]
fn runtime_without_timers_makes_misses_unavailable() {
    let tokens = MemoryStore::new();
    let node = Node::new(&RemoteStore::new(&tokens), &clock());
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let status = runtime
        .unwrap()
        .block_on(node.status(&insert_token(&tokens)));
    assert_eq!(status, UNAVAILABLE);
}

#[tokio::test]
async fn uses_find_cached_of_inner_store() {
    let tokens = MemoryStore::new();
    let cached = CachedStore::new(tokens.clone());
    let token = insert_token(&tokens);
    let presented = PresentedToken::new(token.expose_secret()).unwrap();
    let found = cached.find_cached(&Credential::new(presented));
    assert!(matches!(found, Cached::Found(_)));
    assert_eq!(cached.occupancy().positive, 0);
}

#[test]
fn debug_shows_only_settings() {
    let tokens = MemoryStore::new();
    let token = TokenDigest::of("x");
    let id = mint().id();
    tokens.insert(TokenRecord::new(id, token)).unwrap();
    let cached = CachedStore::new(RemoteStore::new(&tokens)).with_ttl(Duration::from_secs(7));
    let debug = format!("{cached:?}");
    assert_eq!(debug, "CachedStore { ttl: 7s, negative_ttl: 2s, .. }");
}

#[cfg(feature = "metrics")]
#[test]
fn counts_every_outcome() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let tokens = MemoryStore::new();
        let remote = RemoteStore::new(&tokens);
        let clock = clock();
        let runtime = build_runtime(tokio::runtime::Builder::new_current_thread());
        runtime.block_on(async {
            let node = Node::new(&remote, &clock);
            let (token, unknown) = (insert_token(&tokens), mint());
            for _ in 0..3 {
                node.status(&token).await;
                node.status(&unknown).await;
            }
            node.cached.clear();
            let (one, two) = tokio::join!(node.status(&token), node.status(&token));
            assert_eq!((one, two), (OK, OK));
            tokens.revoke(token.id()).unwrap();
            remote.set_fault(Fault::Down);
            node.status(&token).await;
            remote.set_fault(Fault::Panic);
            node.status(&token).await;
        });
    });
    let metric_values: Vec<_> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .filter(|(key, ..)| key.key().name().starts_with("service_token_cache_"))
        .map(|(key, _, _, value)| {
            let labels: Vec<_> = key.key().labels().map(metrics::Label::value).collect();
            let value = match value {
                DebugValue::Counter(count) => i64::try_from(count).unwrap(),
                DebugValue::Gauge(value) if value.0 == 0.0 => 0,
                value => panic!("{value:?}"),
            };
            let name = key.key().name().trim_start_matches("service_token_cache_");
            (format!("{name} {}", labels.join(" ")), value)
        })
        .collect();
    let mut metric_values: Vec<_> = metric_values
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    metric_values.sort_unstable();
    let expected = [
        ("changes_total token", 2),
        ("lookups_in_flight ", 0),
        ("lookups_total completed", 3),
        ("lookups_total failed", 1),
        ("lookups_total lost", 1),
        ("requests_total coalesced", 1),
        ("requests_total hit", 2),
        ("requests_total miss", 5),
        ("requests_total negative_hit", 2),
    ];
    assert_eq!(metric_values, expected);
}
