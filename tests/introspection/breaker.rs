//! What opens the circuit breaker and what does not, and how long it stays open.

use std::time::Duration;

use tower_service_token::clock::ManualClock;
use tower_service_token::introspection::BreakerState;

use crate::protected_service::{
    Accepted, Kind, Outcome, ProtectedService, Refused, SECOND, TRANSIENT, Unavailable, clock,
    just_before, settle,
};
use crate::upstream::{Answer, Upstream};

const OPEN: Outcome = Unavailable(Kind::BreakerOpen);

/// Advances both clocks that the store uses.
async fn pass(clock: &ManualClock, time: Duration) {
    clock.advance(time);
    tokio::time::advance(time).await;
}

/// Sends requests with `count` different tokens, one after the other.
async fn ask_many(service: &ProtectedService, count: usize) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for number in 0..count {
        outcomes.push(service.authenticate(&format!("odd-{number}")).await);
    }
    outcomes
}

#[tokio::test(start_paused = true)]
async fn opens_after_five_consecutive_failures() {
    // The failure, and how many calls each request makes.
    for (answer, calls) in [
        (Answer::status(429), 1),
        (Answer::status(502), 2),
        (Answer::status(503), 2),
        (Answer::status(504), 2),
        (Answer::Unreachable, 2),
        (Answer::Hang, 1),
    ] {
        let clock = clock();
        let upstream = Upstream::responding(Answer::active());
        let service = ProtectedService::new(&upstream, &clock);
        assert_eq!(service.authenticate("known").await, Accepted);
        upstream.respond_with(answer);
        for number in 0..5 {
            assert_eq!(service.breaker(), BreakerState::Closed);
            assert_eq!(
                service.authenticate(&format!("token-{number}")).await,
                TRANSIENT
            );
            settle().await;
        }
        let before = upstream.calls();
        assert_eq!(before, 1 + 5 * calls);
        assert_eq!(service.breaker(), BreakerState::Open);
        upstream.respond_with(Answer::active());
        assert_eq!(ask_many(&service, 20).await, [OPEN; 20]);
        pass(&clock, just_before(SECOND)).await;
        assert_eq!(service.authenticate("token").await, OPEN);
        assert_eq!(upstream.calls(), before);
        // Cached tokens are accepted as before.
        assert_eq!(service.authenticate("known").await, Accepted);
        assert_eq!(service.store.status().in_flight, 0);
    }
}

/// A node whose breaker has just opened.
async fn opened(upstream: &Upstream, clock: &ManualClock) -> ProtectedService {
    let service = ProtectedService::new(upstream, clock);
    upstream.respond_with(Answer::status(429));
    assert_eq!(ask_many(&service, 5).await, [TRANSIENT; 5]);
    assert_eq!(service.breaker(), BreakerState::Open);
    service
}

#[tokio::test(start_paused = true)]
async fn probe_closes_the_breaker_within_five_seconds() {
    let clock = clock();
    let upstream = Upstream::responding(Answer::active());
    let service = opened(&upstream, &clock).await;
    let before = upstream.calls();
    upstream.respond_with(Answer::active());
    pass(&clock, 5 * SECOND).await;
    upstream.answered().close();
    let probe = service.spawn("token");
    upstream.answered().wait_until_reached().await;
    assert_eq!(service.breaker(), BreakerState::HalfOpen);
    // Other requests neither wait for the probe nor are probes.
    assert_eq!(ask_many(&service, 20).await, [OPEN; 20]);
    assert_eq!(upstream.calls(), before + 1);
    upstream.answered().reopen();
    upstream.answered().resume_one();
    assert_eq!(probe.await.unwrap(), Accepted);
    assert_eq!(service.breaker(), BreakerState::Closed);
    assert_eq!(ask_many(&service, 20).await, [Accepted; 20]);
    // Opening takes five failures again.
    upstream.respond_with(Answer::status(429));
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
    let upstream = Upstream::responding(Answer::active());
    let service = opened(&upstream, &clock).await;
    for round in 0..3 {
        let before = upstream.calls();
        pass(&clock, 5 * SECOND).await;
        assert_eq!(
            service.authenticate(&format!("probe-{round}")).await,
            TRANSIENT
        );
        assert_eq!(service.breaker(), BreakerState::Open);
        assert_eq!(ask_many(&service, 10).await, [OPEN; 10]);
        pass(&clock, just_before(SECOND)).await;
        assert_eq!(service.authenticate("token").await, OPEN);
        assert_eq!(upstream.calls(), before + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_or_panicked_probe_does_not_block_later_probes() {
    for panics in [false, true] {
        let clock = clock();
        let upstream = Upstream::responding(Answer::active());
        let service = opened(&upstream, &clock).await;
        upstream.respond_with(if panics {
            Answer::Panic
        } else {
            Answer::active()
        });
        pass(&clock, 5 * SECOND).await;
        upstream.answered().close();
        let probe = service.spawn("probe");
        upstream.answered().wait_until_reached().await;
        if !panics {
            probe.abort();
        }
        upstream.answered().reopen();
        upstream.answered().resume_one();
        let _ = probe.await;
        settle().await;
        upstream.respond_with(Answer::active());
        pass(&clock, 5 * SECOND).await;
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
    for (answer, expected) in [
        (Answer::inactive(), Refused),
        (Answer::status(400), Unavailable(Kind::Protocol)),
        (Answer::error(400, "unsupported_token_type"), Refused),
        (Answer::status(500), TRANSIENT),
    ] {
        let clock = clock();
        let upstream = Upstream::responding(Answer::active());
        let service = opened(&upstream, &clock).await;
        upstream.respond_with(answer);
        pass(&clock, 5 * SECOND).await;
        assert_eq!(service.authenticate("probe").await, expected);
        upstream.respond_with(Answer::active());
        assert_eq!(
            service.authenticate("token").await,
            Accepted,
            "the server responds"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn open_duration_is_jittered_between_one_and_five_seconds() {
    let mut times = Vec::new();
    for _ in 0..40 {
        let clock = clock();
        let upstream = Upstream::responding(Answer::active());
        let service = opened(&upstream, &clock).await;
        let before = upstream.calls();
        let mut waited = 0;
        while upstream.calls() == before {
            pass(&clock, SECOND / 10).await;
            waited += 1;
            assert!(waited <= 50, "longer than five seconds");
            service.authenticate("token").await;
        }
        times.push(waited);
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
    for answer in [
        Answer::inactive(),
        Answer::status(400),
        Answer::error(400, "unsupported_token_type"),
        Answer::status(401),
        Answer::status(403),
        Answer::status(404),
        Answer::status(405),
        Answer::status(413),
        Answer::status(414),
        Answer::status(422),
        Answer::status(431),
        Answer::status(500),
        Answer::status(302),
        Answer::text("text/html", "<p>sorry</p>"),
        Answer::json("{"),
        Answer::json("x".repeat(100_000)),
        Answer::json("{\"active\":\"true\"}"),
        Answer::Lost,
    ] {
        let upstream = Upstream::responding(answer);
        let service = ProtectedService::new(&upstream, &clock());
        ask_many(&service, 50).await;
        assert_eq!(service.breaker(), BreakerState::Closed);
        assert!(upstream.calls() >= 50);
        upstream.respond_with(Answer::active());
        assert_eq!(service.authenticate("good").await, Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn success_resets_the_failure_count() {
    let upstream = Upstream::new(|call| match call.number % 5 {
        4 => Answer::active(),
        _ => Answer::status(429),
    });
    let service = ProtectedService::new(&upstream, &clock());
    ask_many(&service, 50).await;
    assert_eq!(upstream.calls(), 50);
    assert_eq!(service.breaker(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn breaker_threshold_is_configurable() {
    let upstream = Upstream::responding(Answer::status(429));
    let service = ProtectedService::with(&upstream, &clock(), |builder| {
        builder.with_breaker_threshold(2)
    });
    assert_eq!(ask_many(&service, 3).await, [TRANSIENT, TRANSIENT, OPEN]);
}
