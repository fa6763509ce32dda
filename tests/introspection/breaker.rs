//! Who can open the breaker, for how long it stays open, and who cannot.

use std::time::Duration;

use tower_service_token::clock::ManualClock;
use tower_service_token::store::BreakerState;

use crate::node::{
    Accepted, Kind, Node, Outcome, Refused, SECOND, TRANSIENT, Unavailable, clock, just_before,
    settle,
};
use crate::upstream::{Answer, Upstream};

const OPEN: Outcome = Unavailable(Kind::BreakerOpen);

/// Whatever the store measures by.
async fn pass(clock: &ManualClock, time: Duration) {
    clock.advance(time);
    tokio::time::advance(time).await;
}

/// Sends requests for so many different tokens, one after the other.
async fn ask_many(node: &Node, count: usize) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for number in 0..count {
        outcomes.push(node.ask(&format!("odd-{number}")).await);
    }
    outcomes
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_open_it_and_nobody_is_asked_meanwhile() {
    // What fails, and how many calls each request makes of it.
    for (answer, calls) in [
        (Answer::status(429), 1),
        (Answer::status(502), 2),
        (Answer::status(503), 2),
        (Answer::status(504), 2),
        (Answer::Unreachable, 2),
        (Answer::Hang, 1),
    ] {
        let clock = clock();
        let upstream = Upstream::saying(Answer::active());
        let node = Node::new(&upstream, &clock);
        assert_eq!(node.ask("known").await, Accepted);
        upstream.say(answer);
        for number in 0..5 {
            assert_eq!(node.breaker(), BreakerState::Closed);
            assert_eq!(node.ask(&format!("token-{number}")).await, TRANSIENT);
            settle().await;
        }
        let before = upstream.calls();
        assert_eq!(before, 1 + 5 * calls);
        assert_eq!(node.breaker(), BreakerState::Open);
        upstream.say(Answer::active());
        assert_eq!(ask_many(&node, 20).await, [OPEN; 20]);
        pass(&clock, just_before(SECOND)).await;
        assert_eq!(node.ask("token").await, OPEN);
        assert_eq!(upstream.calls(), before);
        // What is known is served as ever.
        assert_eq!(node.ask("known").await, Accepted);
        assert_eq!(node.store.status().in_flight, 0);
    }
}

/// A node whose breaker has just opened.
async fn opened(upstream: &Upstream, clock: &ManualClock) -> Node {
    let node = Node::new(upstream, clock);
    upstream.say(Answer::status(429));
    assert_eq!(ask_many(&node, 5).await, [TRANSIENT; 5]);
    assert_eq!(node.breaker(), BreakerState::Open);
    node
}

#[tokio::test(start_paused = true)]
async fn after_at_most_five_seconds_one_probe_closes_it() {
    let clock = clock();
    let upstream = Upstream::saying(Answer::active());
    let node = opened(&upstream, &clock).await;
    let before = upstream.calls();
    upstream.say(Answer::active());
    pass(&clock, 5 * SECOND).await;
    upstream.answered().close();
    let probe = node.spawn("token");
    upstream.answered().reached().await;
    assert_eq!(node.breaker(), BreakerState::HalfOpen);
    // The others need not wait for the probe, and are no probe either.
    assert_eq!(ask_many(&node, 20).await, [OPEN; 20]);
    assert_eq!(upstream.calls(), before + 1);
    upstream.answered().reopen();
    upstream.answered().let_go();
    assert_eq!(probe.await.unwrap(), Accepted);
    assert_eq!(node.breaker(), BreakerState::Closed);
    assert_eq!(ask_many(&node, 20).await, [Accepted; 20]);
    // It takes five failures again.
    upstream.say(Answer::status(429));
    for number in 0..4 {
        assert_eq!(node.ask(&format!("more-{number}")).await, TRANSIENT);
    }
    assert_eq!(node.breaker(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_opens_it_again() {
    let clock = clock();
    let upstream = Upstream::saying(Answer::active());
    let node = opened(&upstream, &clock).await;
    for round in 0..3 {
        let before = upstream.calls();
        pass(&clock, 5 * SECOND).await;
        assert_eq!(node.ask(&format!("probe-{round}")).await, TRANSIENT);
        assert_eq!(node.breaker(), BreakerState::Open);
        assert_eq!(ask_many(&node, 10).await, [OPEN; 10]);
        pass(&clock, just_before(SECOND)).await;
        assert_eq!(node.ask("token").await, OPEN);
        assert_eq!(upstream.calls(), before + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_caller_goes_away_or_whose_transport_panics_locks_nobody_out() {
    for panics in [false, true] {
        let clock = clock();
        let upstream = Upstream::saying(Answer::active());
        let node = opened(&upstream, &clock).await;
        upstream.say(if panics {
            Answer::Panic
        } else {
            Answer::active()
        });
        pass(&clock, 5 * SECOND).await;
        upstream.answered().close();
        let probe = node.spawn("probe");
        upstream.answered().reached().await;
        if !panics {
            probe.abort();
        }
        upstream.answered().reopen();
        upstream.answered().let_go();
        let _ = probe.await;
        settle().await;
        upstream.say(Answer::active());
        pass(&clock, 5 * SECOND).await;
        assert_eq!(node.ask("token").await, Accepted, "panics: {panics}");
        assert_eq!(node.breaker(), BreakerState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_answered_about_a_bad_token_closes_it_too() {
    for (answer, expected) in [
        (Answer::inactive(), Refused),
        (Answer::status(400), Unavailable(Kind::Protocol)),
        (Answer::error(400, "unsupported_token_type"), Refused),
        (Answer::status(500), TRANSIENT),
    ] {
        let clock = clock();
        let upstream = Upstream::saying(Answer::active());
        let node = opened(&upstream, &clock).await;
        upstream.say(answer);
        pass(&clock, 5 * SECOND).await;
        assert_eq!(node.ask("probe").await, expected);
        upstream.say(Answer::active());
        assert_eq!(node.ask("token").await, Accepted, "the server answers");
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_it_stays_open_is_spread_between_one_and_five_seconds() {
    let mut times = Vec::new();
    for _ in 0..40 {
        let clock = clock();
        let upstream = Upstream::saying(Answer::active());
        let node = opened(&upstream, &clock).await;
        let before = upstream.calls();
        let mut waited = 0;
        while upstream.calls() == before {
            pass(&clock, SECOND / 10).await;
            waited += 1;
            assert!(waited <= 50, "longer than five seconds");
            node.ask("token").await;
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
async fn nobody_can_open_it_by_sending_odd_tokens() {
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
        let upstream = Upstream::saying(answer);
        let node = Node::new(&upstream, &clock());
        ask_many(&node, 50).await;
        assert_eq!(node.breaker(), BreakerState::Closed);
        assert!(upstream.calls() >= 50);
        upstream.say(Answer::active());
        assert_eq!(node.ask("good").await, Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_between_starts_the_count_anew() {
    let upstream = Upstream::new(|call| match call.number % 5 {
        4 => Answer::active(),
        _ => Answer::status(429),
    });
    let node = Node::new(&upstream, &clock());
    ask_many(&node, 50).await;
    assert_eq!(upstream.calls(), 50);
    assert_eq!(node.breaker(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn how_many_failures_it_takes_can_be_set() {
    let upstream = Upstream::saying(Answer::status(429));
    let node = Node::with(&upstream, &clock(), |builder| {
        builder.with_breaker_threshold(2)
    });
    assert_eq!(ask_many(&node, 3).await, [TRANSIENT, TRANSIENT, OPEN]);
}
