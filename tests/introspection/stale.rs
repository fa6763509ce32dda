//! Expired entries that are used while the server is unavailable, if enabled.

use std::time::Duration;

use serde_json::json;
use tower_service_token::clock::ManualClock;
use tower_service_token::introspection::BreakerState;

use crate::protected_service::{
    Accepted, Kind, MILLISECOND, ProtectedService, Refused, SECOND, START, TRANSIENT, Unavailable,
    at, clock, credential, just_before,
};
use crate::upstream::{Answer, Upstream, active_with};

const TTL: Duration = Duration::from_secs(10);
const LONGER: Duration = Duration::from_secs(60);

/// A node with an entry that has just expired.
async fn outdated(upstream: &Upstream, clock: &ManualClock) -> ProtectedService {
    let service = ProtectedService::with(upstream, clock, |builder| {
        builder.with_stale_if_error(LONGER)
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
    let upstream = Upstream::responding(Answer::active());
    let service = ProtectedService::new(&upstream, &clock);
    assert_eq!(service.authenticate("token").await, Accepted);
    clock.advance(TTL);
    upstream.respond_with(Answer::status(503));
    assert_eq!(service.authenticate("token").await, TRANSIENT);
}

#[tokio::test(start_paused = true)]
async fn serves_a_marked_stale_entry_on_transient_failures() {
    for answer in [
        Answer::status(429),
        Answer::status(500),
        Answer::status(502),
        Answer::status(503),
        Answer::Lost,
        Answer::Hang,
    ] {
        let clock = clock();
        let upstream = Upstream::responding(Answer::active());
        let service = outdated(&upstream, &clock).await;
        upstream.respond_with(answer);
        let principal = service.principal("token").await;
        assert!(principal.is_stale());
        assert_eq!(principal.subject(), Some("ci"));
        assert!(upstream.calls() > 1, "it was asked first");
        // Not after the server is available again.
        upstream.respond_with(Answer::active());
        assert!(!service.principal("token").await.is_stale());
        assert_eq!(service.authenticate("unknown").await, Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn serves_no_stale_entry_on_credential_or_protocol_failures() {
    for (answer, expected) in [
        (Answer::status(401), Unavailable(Kind::Credentials)),
        (Answer::status(403), Unavailable(Kind::Credentials)),
        (Answer::status(400), Unavailable(Kind::Protocol)),
        (Answer::status(404), Unavailable(Kind::Protocol)),
        (Answer::status(302), Unavailable(Kind::Protocol)),
        (Answer::json("{"), Unavailable(Kind::Protocol)),
        (Answer::error(400, "unsupported_token_type"), Refused),
    ] {
        let clock = clock();
        let upstream = Upstream::responding(Answer::active());
        let service = outdated(&upstream, &clock).await;
        upstream.respond_with(answer);
        assert_eq!(service.authenticate("token").await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn stale_if_error_ends_at_its_bound() {
    let clock = clock();
    let upstream = Upstream::responding(Answer::active());
    let service = outdated(&upstream, &clock).await;
    upstream.respond_with(Answer::status(500));
    clock.advance(just_before(LONGER));
    assert!(service.principal("token").await.is_stale());
    clock.advance(MILLISECOND);
    assert_eq!(service.authenticate("token").await, TRANSIENT);
}

#[tokio::test(start_paused = true)]
async fn stale_entry_never_outlives_the_token() {
    let clock = clock();
    let expiring = active_with(&json!({ "exp": START + 20 }));
    let upstream = Upstream::responding(Answer::of(&expiring));
    let service = outdated(&upstream, &clock).await;
    upstream.respond_with(Answer::status(500));
    clock.set(at(START + 20) - MILLISECOND);
    assert!(service.principal("token").await.is_stale());
    clock.set(at(START + 20));
    assert_ne!(service.authenticate("token").await, Accepted);
}

#[tokio::test(start_paused = true)]
async fn inactive_response_removes_the_stale_entry() {
    let clock = clock();
    let upstream = Upstream::responding(Answer::active());
    let service = outdated(&upstream, &clock).await;
    upstream.respond_with(Answer::inactive());
    assert_eq!(service.authenticate("token").await, Refused);
    upstream.respond_with(Answer::status(500));
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
        let upstream = Upstream::responding(Answer::active());
        let service = outdated(&upstream, &clock).await;
        upstream.respond_with(Answer::of(&active_with(&members)));
        assert_eq!(service.authenticate("token").await, Refused);
        upstream.respond_with(Answer::status(500));
        clock.advance(TTL);
        assert_eq!(service.authenticate("token").await, TRANSIENT, "{members}");
    }
}

#[tokio::test(start_paused = true)]
async fn invalidated_entry_is_not_served_stale() {
    for forgets_all in [false, true] {
        let clock = clock();
        let upstream = Upstream::responding(Answer::active());
        let service = outdated(&upstream, &clock).await;
        upstream.respond_with(Answer::status(500));
        assert!(service.principal("token").await.is_stale());
        if forgets_all {
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
    let upstream = Upstream::responding(Answer::active());
    let service = outdated(&upstream, &clock).await;
    upstream.respond_with(Answer::status(500));
    assert_eq!(service.authenticate("other").await, TRANSIENT);
}

#[tokio::test(start_paused = true)]
async fn open_breaker_serves_stale_entries_without_a_call() {
    let clock = clock();
    let upstream = Upstream::responding(Answer::active());
    let service = outdated(&upstream, &clock).await;
    upstream.respond_with(Answer::status(429));
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
