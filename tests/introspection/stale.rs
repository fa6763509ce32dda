//! Expired entries that are served while the server is unavailable, if enabled.

use std::time::Duration;

use serde_json::json;
use tests::time_steps::just_before;
use tower_service_token::clock::ManualClock;
use tower_service_token::introspection::BreakerState;

use crate::protected_service::{
    Accepted, Kind, MILLISECOND, ProtectedService, Rejected, SECOND, START, TRANSIENT, Unavailable,
    at, clock, credential,
};
use crate::upstream::{MockResponse, Upstream, active_with};

const TTL: Duration = Duration::from_secs(10);
const MAX_STALE: Duration = Duration::from_secs(60);

/// Creates a service with a cache entry that has just expired.
async fn service_with_expired_entry(upstream: &Upstream, clock: &ManualClock) -> ProtectedService {
    let service = ProtectedService::with(upstream, clock, |builder| {
        builder.with_stale_if_error(MAX_STALE)
    });
    assert!(!service.principal("token").await.is_stale());
    clock.advance(just_before(TTL));
    assert!(!service.principal("token").await.is_stale());
    assert_eq!(upstream.calls(), 1);
    clock.advance(MILLISECOND);
    service
}

#[tokio::test(start_paused = true)]
async fn stale_if_error_is_off_by_default() {
    let clock = clock();
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::new(&upstream, &clock);
    assert_eq!(service.authenticate("token").await, Accepted);
    clock.advance(TTL);
    upstream.respond_with(MockResponse::status(503));
    assert_eq!(service.authenticate("token").await, TRANSIENT);
}

#[tokio::test(start_paused = true)]
async fn serves_a_marked_stale_entry_on_transient_failures() {
    for response in [
        MockResponse::status(429),
        MockResponse::status(500),
        MockResponse::status(502),
        MockResponse::status(503),
        MockResponse::Reset,
        MockResponse::Hang,
    ] {
        let clock = clock();
        let upstream = Upstream::responding(MockResponse::active());
        let service = service_with_expired_entry(&upstream, &clock).await;
        upstream.respond_with(response);
        let principal = service.principal("token").await;
        assert!(principal.is_stale());
        assert_eq!(principal.subject(), Some("ci"));
        assert!(upstream.calls() > 1, "the server is called first");
        // No entry is stale once the server is available again.
        upstream.respond_with(MockResponse::active());
        assert!(!service.principal("token").await.is_stale());
        assert_eq!(service.authenticate("unknown").await, Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn does_not_serve_stale_entries_on_credential_or_protocol_failures() {
    for (response, expected) in [
        (MockResponse::status(401), Unavailable(Kind::Credentials)),
        (MockResponse::status(403), Unavailable(Kind::Credentials)),
        (MockResponse::status(400), Unavailable(Kind::Protocol)),
        (MockResponse::status(404), Unavailable(Kind::Protocol)),
        (MockResponse::status(302), Unavailable(Kind::Protocol)),
        (MockResponse::json("{"), Unavailable(Kind::Protocol)),
        (MockResponse::error(400, "unsupported_token_type"), Rejected),
    ] {
        let clock = clock();
        let upstream = Upstream::responding(MockResponse::active());
        let service = service_with_expired_entry(&upstream, &clock).await;
        upstream.respond_with(response);
        assert_eq!(service.authenticate("token").await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn stale_if_error_ends_at_its_bound() {
    let clock = clock();
    let upstream = Upstream::responding(MockResponse::active());
    let service = service_with_expired_entry(&upstream, &clock).await;
    upstream.respond_with(MockResponse::status(500));
    clock.advance(just_before(MAX_STALE));
    assert!(service.principal("token").await.is_stale());
    clock.advance(MILLISECOND);
    assert_eq!(service.authenticate("token").await, TRANSIENT);
}

#[tokio::test(start_paused = true)]
async fn stale_entry_never_outlives_the_token() {
    let clock = clock();
    let expiring = active_with(&json!({ "exp": START + 20 }));
    let upstream = Upstream::responding(MockResponse::from_json(&expiring));
    let service = service_with_expired_entry(&upstream, &clock).await;
    upstream.respond_with(MockResponse::status(500));
    clock.set(at(START + 20) - MILLISECOND);
    assert!(service.principal("token").await.is_stale());
    clock.set(at(START + 20));
    assert_ne!(service.authenticate("token").await, Accepted);
}

#[tokio::test(start_paused = true)]
async fn inactive_response_removes_the_stale_entry() {
    let clock = clock();
    let upstream = Upstream::responding(MockResponse::active());
    let service = service_with_expired_entry(&upstream, &clock).await;
    upstream.respond_with(MockResponse::inactive());
    assert_eq!(service.authenticate("token").await, Rejected);
    upstream.respond_with(MockResponse::status(500));
    clock.advance(2 * SECOND);
    assert_eq!(service.authenticate("token").await, TRANSIENT);
}

#[tokio::test(start_paused = true)]
async fn claim_violation_removes_the_stale_entry() {
    for members in [
        json!({ "exp": START }),
        json!({ "nbf": START + 1_000 }),
        json!({ "cnf": {} }),
    ] {
        let clock = clock();
        let upstream = Upstream::responding(MockResponse::active());
        let service = service_with_expired_entry(&upstream, &clock).await;
        upstream.respond_with(MockResponse::from_json(&active_with(&members)));
        assert_eq!(service.authenticate("token").await, Rejected);
        upstream.respond_with(MockResponse::status(500));
        clock.advance(TTL);
        assert_eq!(service.authenticate("token").await, TRANSIENT, "{members}");
    }
}

#[tokio::test(start_paused = true)]
async fn invalidated_entry_is_not_served_stale() {
    for clears_all in [false, true] {
        let clock = clock();
        let upstream = Upstream::responding(MockResponse::active());
        let service = service_with_expired_entry(&upstream, &clock).await;
        upstream.respond_with(MockResponse::status(500));
        assert!(service.principal("token").await.is_stale());
        if clears_all {
            service.store.clear();
        } else {
            service.store.invalidate(&credential("token"));
        }
        assert_eq!(service.authenticate("token").await, TRANSIENT);
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_token_gets_no_stale_entry() {
    let clock = clock();
    let upstream = Upstream::responding(MockResponse::active());
    let service = service_with_expired_entry(&upstream, &clock).await;
    upstream.respond_with(MockResponse::status(500));
    assert_eq!(service.authenticate("other").await, TRANSIENT);
}

#[tokio::test(start_paused = true)]
async fn open_breaker_serves_stale_entries_without_a_call() {
    let clock = clock();
    let upstream = Upstream::responding(MockResponse::active());
    let service = service_with_expired_entry(&upstream, &clock).await;
    upstream.respond_with(MockResponse::status(429));
    for number in 0..5 {
        assert_eq!(
            service.authenticate(&format!("other-{number}")).await,
            TRANSIENT
        );
    }
    assert_eq!(service.breaker(), BreakerState::Open);
    let before = upstream.calls();
    assert!(service.principal("token").await.is_stale());
    assert_eq!(upstream.calls(), before);
}
