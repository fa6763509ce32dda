//! The circuit breaker: failures that open it, failures that do not, and how long it stays open.

use std::time::Duration;

use tests::time_steps::{just_before, run_other_tasks};
use tower_service_token::clock::ManualClock;
use tower_service_token::introspection::BreakerState;

use crate::protected_service::{
    Accepted, Kind, Outcome, ProtectedService, Rejected, SECOND, TRANSIENT, Unavailable, clock,
};
use crate::upstream::{MockResponse, Upstream};

const OPEN: Outcome = Unavailable(Kind::BreakerOpen);

/// Advances both clocks that the store uses.
async fn advance_clocks(clock: &ManualClock, time: Duration) {
    clock.advance(time);
    tokio::time::advance(time).await;
}

/// Sends requests with `count` different tokens, one after the other.
async fn send_many(service: &ProtectedService, count: usize) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for number in 0..count {
        outcomes.push(service.authenticate(&format!("other-{number}")).await);
    }
    outcomes
}

#[tokio::test(start_paused = true)]
async fn opens_after_five_consecutive_failures() {
    // Each failure with the number of calls per request.
    for (response, calls) in [
        (MockResponse::status(429), 1),
        (MockResponse::status(502), 2),
        (MockResponse::status(503), 2),
        (MockResponse::status(504), 2),
        (MockResponse::Unreachable, 2),
        (MockResponse::Hang, 1),
    ] {
        let clock = clock();
        let upstream = Upstream::responding(MockResponse::active());
        let service = ProtectedService::new(&upstream, &clock);
        assert_eq!(service.authenticate("known").await, Accepted);
        upstream.respond_with(response);
        for number in 0..5 {
            assert_eq!(service.breaker(), BreakerState::Closed);
            assert_eq!(
                service.authenticate(&format!("token-{number}")).await,
                TRANSIENT
            );
            run_other_tasks().await;
        }
        let before = upstream.calls();
        assert_eq!(before, 1 + 5 * calls);
        assert_eq!(service.breaker(), BreakerState::Open);
        upstream.respond_with(MockResponse::active());
        assert_eq!(send_many(&service, 20).await, [OPEN; 20]);
        advance_clocks(&clock, just_before(SECOND)).await;
        assert_eq!(service.authenticate("token").await, OPEN);
        assert_eq!(upstream.calls(), before);
        // Cached tokens are accepted as before.
        assert_eq!(service.authenticate("known").await, Accepted);
        assert_eq!(service.store.status().in_flight, 0);
    }
}

/// Creates a service whose breaker has just opened.
async fn service_with_open_breaker(upstream: &Upstream, clock: &ManualClock) -> ProtectedService {
    let service = ProtectedService::new(upstream, clock);
    upstream.respond_with(MockResponse::status(429));
    assert_eq!(send_many(&service, 5).await, [TRANSIENT; 5]);
    assert_eq!(service.breaker(), BreakerState::Open);
    service
}

#[tokio::test(start_paused = true)]
async fn probe_closes_the_breaker_within_five_seconds() {
    let clock = clock();
    let upstream = Upstream::responding(MockResponse::active());
    let service = service_with_open_breaker(&upstream, &clock).await;
    let before = upstream.calls();
    upstream.respond_with(MockResponse::active());
    advance_clocks(&clock, 5 * SECOND).await;
    upstream.before_response().close();
    let probe = service.spawn("token");
    upstream.before_response().wait_until_reached().await;
    assert_eq!(service.breaker(), BreakerState::HalfOpen);
    // Other requests fail at once: they do not wait for the probe and make no call.
    assert_eq!(send_many(&service, 20).await, [OPEN; 20]);
    assert_eq!(upstream.calls(), before + 1);
    upstream.before_response().reopen();
    upstream.before_response().resume_one();
    assert_eq!(probe.await.unwrap(), Accepted);
    assert_eq!(service.breaker(), BreakerState::Closed);
    assert_eq!(send_many(&service, 20).await, [Accepted; 20]);
    // The failure count starts at zero again.
    upstream.respond_with(MockResponse::status(429));
    for number in 0..4 {
        assert_eq!(
            service.authenticate(&format!("more-{number}")).await,
            TRANSIENT
        );
    }
    assert_eq!(service.breaker(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn failed_probe_reopens_the_breaker() {
    let clock = clock();
    let upstream = Upstream::responding(MockResponse::active());
    let service = service_with_open_breaker(&upstream, &clock).await;
    for round in 0..3 {
        let before = upstream.calls();
        advance_clocks(&clock, 5 * SECOND).await;
        assert_eq!(
            service.authenticate(&format!("probe-{round}")).await,
            TRANSIENT
        );
        assert_eq!(service.breaker(), BreakerState::Open);
        assert_eq!(send_many(&service, 10).await, [OPEN; 10]);
        advance_clocks(&clock, just_before(SECOND)).await;
        assert_eq!(service.authenticate("token").await, OPEN);
        assert_eq!(upstream.calls(), before + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_or_panicked_probe_does_not_block_later_probes() {
    for panics in [false, true] {
        let clock = clock();
        let upstream = Upstream::responding(MockResponse::active());
        let service = service_with_open_breaker(&upstream, &clock).await;
        upstream.respond_with(if panics {
            MockResponse::Panic
        } else {
            MockResponse::active()
        });
        advance_clocks(&clock, 5 * SECOND).await;
        upstream.before_response().close();
        let probe = service.spawn("probe");
        upstream.before_response().wait_until_reached().await;
        if !panics {
            probe.abort();
        }
        upstream.before_response().reopen();
        upstream.before_response().resume_one();
        let _ = probe.await;
        run_other_tasks().await;
        upstream.respond_with(MockResponse::active());
        advance_clocks(&clock, 5 * SECOND).await;
        assert_eq!(
            service.authenticate("token").await,
            Accepted,
            "panics: {panics}"
        );
        assert_eq!(service.breaker(), BreakerState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn probe_with_inactive_token_closes_the_breaker() {
    for (response, expected) in [
        (MockResponse::inactive(), Rejected),
        (MockResponse::status(400), Unavailable(Kind::Protocol)),
        (MockResponse::error(400, "unsupported_token_type"), Rejected),
        (MockResponse::status(500), TRANSIENT),
    ] {
        let clock = clock();
        let upstream = Upstream::responding(MockResponse::active());
        let service = service_with_open_breaker(&upstream, &clock).await;
        upstream.respond_with(response);
        advance_clocks(&clock, 5 * SECOND).await;
        assert_eq!(service.authenticate("probe").await, expected);
        upstream.respond_with(MockResponse::active());
        assert_eq!(
            service.authenticate("token").await,
            Accepted,
            "any response of the server closes the breaker"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn open_duration_is_jittered_between_one_and_five_seconds() {
    let mut times = Vec::new();
    for _ in 0..40 {
        let clock = clock();
        let upstream = Upstream::responding(MockResponse::active());
        let service = service_with_open_breaker(&upstream, &clock).await;
        let before = upstream.calls();
        let mut tenths = 0;
        while upstream.calls() == before {
            advance_clocks(&clock, SECOND / 10).await;
            tenths += 1;
            assert!(tenths <= 50, "open for longer than five seconds");
            service.authenticate("token").await;
        }
        times.push(tenths);
    }
    assert!(
        times.iter().all(|tenths| (10..=50).contains(tenths)),
        "{times:?}"
    );
    times.sort_unstable();
    times.dedup();
    assert!(times.len() > 3, "no jitter: {times:?}");
}

#[tokio::test(start_paused = true)]
async fn malformed_tokens_cannot_open_the_breaker() {
    for response in [
        MockResponse::inactive(),
        MockResponse::status(400),
        MockResponse::error(400, "unsupported_token_type"),
        MockResponse::status(401),
        MockResponse::status(403),
        MockResponse::status(404),
        MockResponse::status(405),
        MockResponse::status(413),
        MockResponse::status(414),
        MockResponse::status(422),
        MockResponse::status(431),
        MockResponse::status(500),
        MockResponse::status(302),
        MockResponse::text("text/html", "<p>sorry</p>"),
        MockResponse::json("{"),
        MockResponse::json("x".repeat(100_000)),
        MockResponse::json("{\"active\":\"true\"}"),
        MockResponse::Reset,
    ] {
        let upstream = Upstream::responding(response);
        let service = ProtectedService::new(&upstream, &clock());
        send_many(&service, 50).await;
        assert_eq!(service.breaker(), BreakerState::Closed);
        assert!(upstream.calls() >= 50);
        upstream.respond_with(MockResponse::active());
        assert_eq!(service.authenticate("active").await, Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn success_resets_the_failure_count() {
    let upstream = Upstream::new(|call| match call.number % 5 {
        4 => MockResponse::active(),
        _ => MockResponse::status(429),
    });
    let service = ProtectedService::new(&upstream, &clock());
    send_many(&service, 50).await;
    assert_eq!(upstream.calls(), 50);
    assert_eq!(service.breaker(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn breaker_threshold_is_configurable() {
    let upstream = Upstream::responding(MockResponse::status(429));
    let service = ProtectedService::with(&upstream, &clock(), |builder| {
        builder.with_breaker_threshold(2)
    });
    assert_eq!(send_many(&service, 3).await, [TRANSIENT, TRANSIENT, OPEN]);
}
