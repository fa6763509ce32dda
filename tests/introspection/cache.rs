//! How long responses are cached, how many, and which are not.

use std::future::ready;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use serde_json::json;
use test_support::counting_allocator::Counts;
use tower_service_token::TokenStore;
use tower_service_token::introspection::IntrospectionBuilder;
use tower_service_token::store::Cached;

use crate::protected_service::{
    Accepted, MILLISECOND, ProtectedService, Refused, SECOND, clock, credential, just_before,
};
use crate::upstream::{Answer, Upstream, active_with};

/// The maps are cut into shards of equal size, so a bound is the capacity rounded up.
fn about(capacity: usize) -> usize {
    capacity + capacity / 10
}

/// Looks a token up now, just before `life` and at `life`. That makes two calls if a response is
/// cached for this long.
async fn assert_remembered_for(answer: Answer, life: Duration, set: Setting) {
    let clock = clock();
    let upstream = Upstream::responding(answer);
    let service = ProtectedService::with(&upstream, &clock, set);
    let outcome = service.authenticate("token").await;
    clock.advance(just_before(life));
    assert_eq!(service.authenticate("token").await, outcome);
    assert_eq!(upstream.calls(), 1, "{life:?}");
    clock.advance(MILLISECOND);
    assert_eq!(service.authenticate("token").await, outcome);
    assert_eq!(upstream.calls(), 2, "{life:?}");
}

type Setting = fn(IntrospectionBuilder) -> IntrospectionBuilder;

#[tokio::test(start_paused = true)]
async fn entries_expire_after_their_ttl() {
    let as_is: Setting = |builder| builder;
    assert_remembered_for(Answer::active(), 10 * SECOND, as_is).await;
    assert_remembered_for(Answer::inactive(), 2 * SECOND, as_is).await;
    let set: Setting = |builder| builder.with_ttl(3 * SECOND).with_negative_ttl(60 * SECOND);
    assert_remembered_for(Answer::active(), 3 * SECOND, set).await;
    assert_remembered_for(Answer::inactive(), 10 * SECOND, set).await;
}

#[tokio::test(start_paused = true)]
async fn ttl_starts_before_the_call() {
    let clock = clock();
    let upstream = Upstream::responding(Answer::active());
    let service = ProtectedService::new(&upstream, &clock);
    upstream.answered().close();
    let request = service.spawn("token");
    upstream.answered().wait_until_reached().await;
    clock.advance(2 * SECOND);
    upstream.answered().reopen();
    upstream.answered().resume_one();
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
    for answer in [Answer::active(), Answer::inactive()] {
        let upstream = Upstream::responding(answer);
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
    for answer in [
        Answer::error(400, "unsupported_token_type"),
        Answer::error(400, "invalid_request"),
        Answer::inactive().with_status(401),
        Answer::inactive().with_status(403),
        Answer::inactive().with_status(404),
        Answer::active().with_status(201),
        Answer::inactive().with_status(429),
        Answer::inactive().with_status(500),
        Answer::json("{\"active\":\"true\"}"),
        Answer::json("{\"active\":false"),
        Answer::text("text/html", "{\"active\":false}"),
        Answer::Lost,
    ] {
        let upstream = Upstream::responding(answer);
        let service = ProtectedService::new(&upstream, &clock());
        let outcome = service.authenticate("token").await;
        let status = service.store.status();
        assert_eq!((status.active, status.inactive), (0, 0));
        assert!(matches!(service.find_cached("token"), Cached::Miss));
        assert_ne!(outcome, Accepted);
        let before = upstream.calls();
        // The next request makes a call of its own.
        upstream.respond_with(Answer::active());
        assert_eq!(service.authenticate("token").await, Accepted);
        assert_eq!(upstream.calls(), before + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn newer_response_replaces_the_opposite_entry() {
    let clock = clock();
    let upstream = Upstream::responding(Answer::active());
    let service = ProtectedService::new(&upstream, &clock);
    assert_eq!(service.authenticate("token").await, Accepted);
    upstream.respond_with(Answer::inactive());
    clock.advance(10 * SECOND);
    assert_eq!(service.authenticate("token").await, Refused);
    upstream.respond_with(Answer::active());
    clock.advance(2 * SECOND);
    assert_eq!(service.authenticate("token").await, Accepted);
    clock.advance(just_before(10 * SECOND));
    assert_eq!(service.authenticate("token").await, Accepted);
    assert_eq!(upstream.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn invalidation_refetches_only_the_invalidated_token() {
    let upstream = Upstream::responding(Answer::active());
    let service = ProtectedService::new(&upstream, &clock());
    let asked = async |token: &str| {
        let before = upstream.calls();
        service.authenticate(token).await;
        upstream.calls() - before
    };
    assert_eq!((asked("one").await, asked("two").await), (1, 1));
    service.store.invalidate(&credential("one"));
    assert_eq!((asked("one").await, asked("two").await), (1, 0));
    upstream.respond_with(Answer::inactive());
    assert_eq!(asked("three").await, 1);
    service.store.invalidate(&credential("three"));
    assert_eq!(asked("three").await, 1);
    service.store.clear();
    let again = (asked("one").await, asked("two").await, asked("three").await);
    assert_eq!(again, (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn invalidation_during_a_call_discards_its_result() {
    for (forgets_all, asks_meanwhile) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        for (before, after, expected) in [
            (Answer::active(), Answer::inactive(), Refused),
            (Answer::inactive(), Answer::active(), Accepted),
        ] {
            let upstream = Upstream::responding(before);
            let service = ProtectedService::new(&upstream, &clock());
            upstream.answered().close();
            let overtaken = service.spawn("token");
            upstream.answered().wait_until_reached().await;
            upstream.respond_with(after);
            if forgets_all {
                service.store.clear();
            } else {
                service.store.invalidate(&credential("token"));
            }
            upstream.answered().reopen();
            if asks_meanwhile {
                // Requests from now on must not get the previous answer.
                assert_eq!(service.authenticate("token").await, expected);
            }
            upstream.answered().resume_one();
            assert_eq!(
                overtaken.await.unwrap(),
                expected,
                "it looks the token up again"
            );
            assert_eq!(service.authenticate("token").await, expected);
            assert_eq!(service.store.status().in_flight, 0);
        }
    }
}

const GOOD: usize = 1_000;
/// Four of these make seven tokens: 100,002 in total.
const JUNK: usize = 57_144;

/// Counts the tokens that are found, looking up a hundred at a time as the layer does.
async fn found(service: &ProtectedService, tokens: impl Iterator<Item = String>) -> usize {
    let looked_up = tokens.map(|token| async move {
        let credential = credential(&token);
        match service.store.find_cached(&credential) {
            Cached::Found(_) => true,
            Cached::NotFound => false,
            Cached::Miss => service.store.find(&credential).await.unwrap().is_some(),
        }
    });
    let found = stream::iter(looked_up).buffer_unordered(100);
    found.filter(|is_found| ready(*is_found)).count().await
}

#[tokio::test(start_paused = true)]
async fn inactive_tokens_cannot_evict_active_ones() {
    let upstream = good_and_junk();
    let service = ProtectedService::with(&upstream, &clock(), |builder| {
        builder.with_token_filter(|token| !token.expose_secret().contains("..."))
    });
    let good = || (0..GOOD).map(|number| format!("good-{number}"));
    assert_eq!(found(&service, good()).await, GOOD);
    assert_eq!(service.store.status().active, GOOD);

    // Four numbers make seven tokens. One of those is sent twice and needs a call.
    let junk = |number: usize| match number % 4 {
        0 => [
            format!("svctok-{number:010}_{:030}", 0),
            format!("{number}=junk"),
        ],
        1 => [format!("{number}...junk"), format!("{number}\"junk")],
        2 => [format!("...junk-{number}"), format!("={number}")],
        _ => [format!("junk-{number}"), format!("junk-{number}")],
    };
    let half = |start: usize| (start..start + JUNK / 2).flat_map(junk);
    assert_eq!(found(&service, half(0)).await, 0);
    let live_bytes = Counts::of_this_thread().live_bytes;
    assert_eq!(found(&service, half(JUNK / 2)).await, 0);
    let grown = Counts::of_this_thread().live_bytes - live_bytes;
    assert!(grown < 1 << 20, "{grown} bytes");

    let status = service.store.status();
    assert_eq!(status.active, GOOD);
    assert!((1..=about(10_000)).contains(&status.inactive), "{status:?}");
    assert_eq!(status.in_flight, 0);
    assert_eq!(upstream.calls(), GOOD + JUNK / 4);
    assert!(
        upstream.max_concurrent() <= 64,
        "{}",
        upstream.max_concurrent()
    );
    assert_eq!(found(&service, good()).await, GOOD);
    assert_eq!(upstream.calls(), GOOD + JUNK / 4, "all tokens are cached");
}

/// Accepts each token whose text starts with `good`.
fn good_and_junk() -> Upstream {
    Upstream::new(|call| {
        if call.token().starts_with("good") {
            Answer::active()
        } else {
            Answer::inactive()
        }
    })
}

#[tokio::test(start_paused = true)]
async fn cache_respects_both_capacities() {
    let upstream = good_and_junk();
    let service = ProtectedService::with(&upstream, &clock(), |builder| {
        builder.with_capacity(100).with_negative_capacity(50)
    });
    for number in 0..1_000 {
        assert_eq!(
            service.authenticate(&format!("good-{number}")).await,
            Accepted
        );
        assert_eq!(
            service.authenticate(&format!("junk-{number}")).await,
            Refused
        );
    }
    let status = service.store.status();
    assert!((1..=about(100)).contains(&status.active), "{status:?}");
    assert!((1..=about(50)).contains(&status.inactive), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn cache_weight_bounds_large_entries() {
    // A name of 10,000 bytes, which the record holds.
    let heavy = Answer::of(&active_with(&json!({ "name": "x".repeat(10_000) })));
    let upstream = Upstream::responding(heavy);
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
    upstream.respond_with(Answer::active());
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
    let upstream = Upstream::responding(Answer::active());
    let clock = clock();
    let (one, two) = (
        ProtectedService::new(&upstream, &clock),
        ProtectedService::new(&upstream, &clock),
    );
    assert_eq!(one.authenticate("token").await, Accepted);
    assert!(matches!(two.find_cached("token"), Cached::Miss));
    let known = one.store.clone().find_cached(&credential("token"));
    assert!(matches!(known, Cached::Found(_)), "clones share all");
}
