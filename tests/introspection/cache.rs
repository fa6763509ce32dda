//! TTLs and capacities of the cache, and responses that are never cached.

use std::future::ready;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use serde_json::json;
use test_support::counting_allocator::Counts;
use tests::time_steps::just_before;
use tower_service_token::TokenStore;
use tower_service_token::introspection::IntrospectionBuilder;
use tower_service_token::store::Cached;

use crate::protected_service::{
    Accepted, MILLISECOND, ProtectedService, Rejected, SECOND, clock, credential,
};
use crate::upstream::{MockResponse, Upstream, active_with};

/// Each map is split into shards of equal size, so its bound is the capacity rounded up.
fn capacity_with_slack(capacity: usize) -> usize {
    capacity + capacity / 10
}

/// Sends requests now, just before `ttl` and at `ttl`. A response that is cached for `ttl` causes
/// two calls.
async fn assert_cached_for(response: MockResponse, ttl: Duration, configure: Configure) {
    let clock = clock();
    let upstream = Upstream::responding(response);
    let service = ProtectedService::with(&upstream, &clock, configure);
    let outcome = service.authenticate("token").await;
    clock.advance(just_before(ttl));
    assert_eq!(service.authenticate("token").await, outcome);
    assert_eq!(upstream.calls(), 1, "{ttl:?}");
    clock.advance(MILLISECOND);
    assert_eq!(service.authenticate("token").await, outcome);
    assert_eq!(upstream.calls(), 2, "{ttl:?}");
}

type Configure = fn(IntrospectionBuilder) -> IntrospectionBuilder;

#[tokio::test(start_paused = true)]
async fn entries_expire_after_their_ttl() {
    let default_settings: Configure = |builder| builder;
    assert_cached_for(MockResponse::active(), 10 * SECOND, default_settings).await;
    assert_cached_for(MockResponse::inactive(), 2 * SECOND, default_settings).await;
    let configure: Configure =
        |builder| builder.with_ttl(3 * SECOND).with_negative_ttl(60 * SECOND);
    assert_cached_for(MockResponse::active(), 3 * SECOND, configure).await;
    assert_cached_for(MockResponse::inactive(), 10 * SECOND, configure).await;
}

#[tokio::test(start_paused = true)]
async fn ttl_starts_before_the_call() {
    let clock = clock();
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::new(&upstream, &clock);
    upstream.before_response().close();
    let request = service.spawn("token");
    upstream.before_response().wait_until_reached().await;
    clock.advance(2 * SECOND);
    upstream.before_response().reopen();
    upstream.before_response().resume_one();
    assert_eq!(request.await.unwrap(), Accepted);
    clock.advance(just_before(8 * SECOND));
    assert_eq!(service.authenticate("token").await, Accepted);
    assert_eq!(upstream.calls(), 1);
    clock.advance(MILLISECOND);
    assert_eq!(service.authenticate("token").await, Accepted);
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn zero_ttl_disables_the_cache() {
    for response in [MockResponse::active(), MockResponse::inactive()] {
        let upstream = Upstream::responding(response);
        let service = ProtectedService::with(&upstream, &clock(), |builder| {
            builder
                .with_ttl(Duration::ZERO)
                .with_negative_ttl(Duration::ZERO)
        });
        let outcome = service.authenticate("token").await;
        for calls in 1..4 {
            assert_eq!(upstream.calls(), calls);
            assert!(matches!(service.find_cached("token"), Cached::Miss));
            assert_eq!(service.authenticate("token").await, outcome);
        }
        let status = service.store.status();
        assert_eq!((status.active, status.inactive), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn only_active_and_inactive_responses_are_cached() {
    for response in [
        MockResponse::error(400, "unsupported_token_type"),
        MockResponse::error(400, "invalid_request"),
        MockResponse::inactive().with_status(401),
        MockResponse::inactive().with_status(403),
        MockResponse::inactive().with_status(404),
        MockResponse::active().with_status(201),
        MockResponse::inactive().with_status(429),
        MockResponse::inactive().with_status(500),
        MockResponse::json("{\"active\":\"true\"}"),
        MockResponse::json("{\"active\":false"),
        MockResponse::text("text/html", "{\"active\":false}"),
        MockResponse::Reset,
    ] {
        let upstream = Upstream::responding(response);
        let service = ProtectedService::new(&upstream, &clock());
        let outcome = service.authenticate("token").await;
        let status = service.store.status();
        assert_eq!((status.active, status.inactive), (0, 0));
        assert!(matches!(service.find_cached("token"), Cached::Miss));
        assert_ne!(outcome, Accepted);
        let before = upstream.calls();
        // Nothing is cached, so the next request makes a call.
        upstream.respond_with(MockResponse::active());
        assert_eq!(service.authenticate("token").await, Accepted);
        assert_eq!(upstream.calls(), before + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn newer_response_replaces_the_opposite_entry() {
    let clock = clock();
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::new(&upstream, &clock);
    assert_eq!(service.authenticate("token").await, Accepted);
    upstream.respond_with(MockResponse::inactive());
    clock.advance(10 * SECOND);
    assert_eq!(service.authenticate("token").await, Rejected);
    upstream.respond_with(MockResponse::active());
    clock.advance(2 * SECOND);
    assert_eq!(service.authenticate("token").await, Accepted);
    clock.advance(just_before(10 * SECOND));
    assert_eq!(service.authenticate("token").await, Accepted);
    assert_eq!(upstream.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn invalidation_refetches_only_the_invalidated_token() {
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::new(&upstream, &clock());
    let calls_for = async |token: &str| {
        let before = upstream.calls();
        service.authenticate(token).await;
        upstream.calls() - before
    };
    assert_eq!((calls_for("one").await, calls_for("two").await), (1, 1));
    service.store.invalidate(&credential("one"));
    assert_eq!((calls_for("one").await, calls_for("two").await), (1, 0));
    upstream.respond_with(MockResponse::inactive());
    assert_eq!(calls_for("three").await, 1);
    service.store.invalidate(&credential("three"));
    assert_eq!(calls_for("three").await, 1);
    service.store.clear();
    let again = (
        calls_for("one").await,
        calls_for("two").await,
        calls_for("three").await,
    );
    assert_eq!(again, (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn invalidation_during_a_call_discards_its_result() {
    for (clears_all, requests_meanwhile) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        for (before, after, expected) in [
            (MockResponse::active(), MockResponse::inactive(), Rejected),
            (MockResponse::inactive(), MockResponse::active(), Accepted),
        ] {
            let upstream = Upstream::responding(before);
            let service = ProtectedService::new(&upstream, &clock());
            upstream.before_response().close();
            let pending = service.spawn("token");
            upstream.before_response().wait_until_reached().await;
            upstream.respond_with(after);
            if clears_all {
                service.store.clear();
            } else {
                service.store.invalidate(&credential("token"));
            }
            upstream.before_response().reopen();
            if requests_meanwhile {
                // A request after the invalidation must not get the earlier response.
                assert_eq!(service.authenticate("token").await, expected);
            }
            upstream.before_response().resume_one();
            assert_eq!(
                pending.await.unwrap(),
                expected,
                "the pending request repeats the lookup"
            );
            assert_eq!(service.authenticate("token").await, expected);
            assert_eq!(service.store.status().in_flight, 0);
        }
    }
}

const ACTIVE_TOKENS: usize = 1_000;
/// Every four numbers produce seven different tokens, 100,002 in total.
const REJECTED_TOKEN_NUMBERS: usize = 57_144;

/// Looks up a hundred tokens at a time, as the layer does, and counts the active ones.
async fn count_active(service: &ProtectedService, tokens: impl Iterator<Item = String>) -> usize {
    let lookups = tokens.map(|token| async move {
        let credential = credential(&token);
        match service.store.find_cached(&credential) {
            Cached::Found(_) => true,
            Cached::NotFound => false,
            Cached::Miss => service.store.find(&credential).await.unwrap().is_some(),
        }
    });
    let results = stream::iter(lookups).buffer_unordered(100);
    results.filter(|is_found| ready(*is_found)).count().await
}

#[tokio::test(start_paused = true)]
async fn inactive_tokens_cannot_evict_active_ones() {
    let upstream = server_with_active_tokens();
    let service = ProtectedService::with(&upstream, &clock(), |builder| {
        builder.with_token_filter(|token| !token.expose_secret().contains("..."))
    });
    let active_tokens = || (0..ACTIVE_TOKENS).map(|number| format!("active-{number}"));
    assert_eq!(count_active(&service, active_tokens()).await, ACTIVE_TOKENS);
    assert_eq!(service.store.status().active, ACTIVE_TOKENS);

    // Only the last of four numbers produces tokens that need a call. They are equal and share it.
    let rejected_tokens = |number: usize| match number % 4 {
        0 => [
            format!("svctok-{number:010}_{:030}", 0),
            format!("{number}=inactive"),
        ],
        1 => [
            format!("{number}...inactive"),
            format!("{number}\"inactive"),
        ],
        2 => [format!("...inactive-{number}"), format!("={number}")],
        _ => [format!("inactive-{number}"), format!("inactive-{number}")],
    };
    let half = |start: usize| (start..start + REJECTED_TOKEN_NUMBERS / 2).flat_map(rejected_tokens);
    assert_eq!(count_active(&service, half(0)).await, 0);
    let live_bytes = Counts::of_this_thread().live_bytes;
    assert_eq!(
        count_active(&service, half(REJECTED_TOKEN_NUMBERS / 2)).await,
        0
    );
    let growth = Counts::of_this_thread().live_bytes - live_bytes;
    assert!(growth < 1 << 20, "{growth} bytes");

    let status = service.store.status();
    assert_eq!(status.active, ACTIVE_TOKENS);
    assert!(
        (1..=capacity_with_slack(10_000)).contains(&status.inactive),
        "{status:?}"
    );
    assert_eq!(status.in_flight, 0);
    assert_eq!(upstream.calls(), ACTIVE_TOKENS + REJECTED_TOKEN_NUMBERS / 4);
    assert!(
        upstream.max_concurrent() <= 64,
        "{}",
        upstream.max_concurrent()
    );
    assert_eq!(count_active(&service, active_tokens()).await, ACTIVE_TOKENS);
    assert_eq!(
        upstream.calls(),
        ACTIVE_TOKENS + REJECTED_TOKEN_NUMBERS / 4,
        "the active tokens are still cached"
    );
}

/// Creates a server for which exactly the tokens that start with `active` are active.
fn server_with_active_tokens() -> Upstream {
    Upstream::new(|call| {
        if call.token().starts_with("active") {
            MockResponse::active()
        } else {
            MockResponse::inactive()
        }
    })
}

#[tokio::test(start_paused = true)]
async fn cache_respects_both_capacities() {
    let upstream = server_with_active_tokens();
    let service = ProtectedService::with(&upstream, &clock(), |builder| {
        builder.with_capacity(100).with_negative_capacity(50)
    });
    for number in 0..1_000 {
        assert_eq!(
            service.authenticate(&format!("active-{number}")).await,
            Accepted
        );
        assert_eq!(
            service.authenticate(&format!("inactive-{number}")).await,
            Rejected
        );
    }
    let status = service.store.status();
    assert!(
        (1..=capacity_with_slack(100)).contains(&status.active),
        "{status:?}"
    );
    assert!(
        (1..=capacity_with_slack(50)).contains(&status.inactive),
        "{status:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn cache_weight_bounds_large_entries() {
    // The record contains a name of 10,000 bytes.
    let large_response =
        MockResponse::from_json(&active_with(&json!({ "name": "x".repeat(10_000) })));
    let upstream = Upstream::responding(large_response);
    let service = ProtectedService::with(&upstream, &clock(), |builder| {
        builder.with_max_weight(1_000_000)
    });
    for number in 0..1_000 {
        assert_eq!(
            service.authenticate(&format!("token-{number}")).await,
            Accepted
        );
    }
    let status = service.store.status();
    assert!((10..=100).contains(&status.active), "{status:?}");
    // Small entries are bounded by the capacity alone.
    upstream.respond_with(MockResponse::active());
    let service = ProtectedService::with(&upstream, &clock(), |builder| {
        builder.with_max_weight(2 << 20)
    });
    for number in 0..1_000 {
        assert_eq!(
            service.authenticate(&format!("token-{number}")).await,
            Accepted
        );
    }
    assert_eq!(service.store.status().active, 1_000);
}

#[tokio::test(start_paused = true)]
async fn only_clones_share_the_cache() {
    let upstream = Upstream::responding(MockResponse::active());
    let clock = clock();
    let (one, two) = (
        ProtectedService::new(&upstream, &clock),
        ProtectedService::new(&upstream, &clock),
    );
    assert_eq!(one.authenticate("token").await, Accepted);
    assert!(matches!(two.find_cached("token"), Cached::Miss));
    let cached = one.store.clone().find_cached(&credential("token"));
    assert!(matches!(cached, Cached::Found(_)), "clones share the cache");
}
