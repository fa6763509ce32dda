//! Answers past their time, told when the server cannot be asked, if that was asked for.

use std::time::Duration;

use serde_json::json;
use tower_service_token::clock::ManualClock;
use tower_service_token::store::BreakerState;

use crate::node::{
    Accepted, Kind, MILLISECOND, Node, Refused, SECOND, START, TRANSIENT, Unavailable, at, clock,
    credential, just_before,
};
use crate::upstream::{Answer, Upstream, active_with};

const TTL: Duration = Duration::from_secs(10);
const LONGER: Duration = Duration::from_secs(60);

/// A node that remembers a token past its time, just after that time began.
async fn outdated(upstream: &Upstream, clock: &ManualClock) -> Node {
    let node = Node::with(upstream, clock, |builder| {
        builder.with_stale_if_error(LONGER)
    });
    assert!(!node.principal("token").await.is_stale());
    clock.advance(just_before(TTL));
    assert!(!node.principal("token").await.is_stale());
    assert_eq!(upstream.calls(), 1);
    clock.advance(MILLISECOND);
    node
}

#[tokio::test(start_paused = true)]
async fn it_is_off_unless_asked_for() {
    let clock = clock();
    let upstream = Upstream::saying(Answer::active());
    let node = Node::new(&upstream, &clock);
    assert_eq!(node.ask("token").await, Accepted);
    clock.advance(TTL);
    upstream.say(Answer::status(503));
    assert_eq!(node.ask("token").await, TRANSIENT);
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_is_told_when_the_server_fails_for_a_passing_reason_and_marked() {
    for answer in [
        Answer::status(429),
        Answer::status(500),
        Answer::status(502),
        Answer::status(503),
        Answer::Lost,
        Answer::Hang,
    ] {
        let clock = clock();
        let upstream = Upstream::saying(Answer::active());
        let node = outdated(&upstream, &clock).await;
        upstream.say(answer);
        let principal = node.principal("token").await;
        assert!(principal.is_stale());
        assert_eq!(principal.subject(), Some("ci"));
        assert!(upstream.calls() > 1, "it was asked first");
        // And no longer once the server is back.
        upstream.say(Answer::active());
        assert!(!node.principal("token").await.is_stale());
        assert_eq!(node.ask("unknown").await, Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn it_does_not_hide_a_failure_that_is_ours_or_a_server_that_talks_nonsense() {
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
        let upstream = Upstream::saying(Answer::active());
        let node = outdated(&upstream, &clock).await;
        upstream.say(answer);
        assert_eq!(node.ask("token").await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_its_bound() {
    let clock = clock();
    let upstream = Upstream::saying(Answer::active());
    let node = outdated(&upstream, &clock).await;
    upstream.say(Answer::status(500));
    clock.advance(just_before(LONGER));
    assert!(node.principal("token").await.is_stale());
    clock.advance(MILLISECOND);
    assert_eq!(node.ask("token").await, TRANSIENT);
}

#[tokio::test(start_paused = true)]
async fn it_never_outlasts_the_expiry_of_the_token() {
    let clock = clock();
    let expiring = active_with(&json!({ "exp": START + 20 }));
    let upstream = Upstream::saying(Answer::of(&expiring));
    let node = outdated(&upstream, &clock).await;
    upstream.say(Answer::status(500));
    clock.set(at(START + 20) - MILLISECOND);
    assert!(node.principal("token").await.is_stale());
    clock.set(at(START + 20));
    assert_ne!(node.ask("token").await, Accepted);
}

#[tokio::test(start_paused = true)]
async fn after_an_inactive_answer_there_is_nothing_to_fall_back_on() {
    let clock = clock();
    let upstream = Upstream::saying(Answer::active());
    let node = outdated(&upstream, &clock).await;
    upstream.say(Answer::inactive());
    assert_eq!(node.ask("token").await, Refused);
    upstream.say(Answer::status(500));
    clock.advance(2 * SECOND);
    assert_eq!(node.ask("token").await, TRANSIENT);
}

#[tokio::test(start_paused = true)]
async fn after_an_answer_that_the_token_is_no_longer_good_there_is_nothing_either() {
    for members in [
        json!({ "exp": START }),
        json!({ "nbf": START + 1_000 }),
        json!({ "cnf": {} }),
    ] {
        let clock = clock();
        let upstream = Upstream::saying(Answer::active());
        let node = outdated(&upstream, &clock).await;
        upstream.say(Answer::of(&active_with(&members)));
        assert_eq!(node.ask("token").await, Refused);
        upstream.say(Answer::status(500));
        clock.advance(TTL);
        assert_eq!(node.ask("token").await, TRANSIENT, "{members}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_forgotten_is_not_told() {
    for forgets_all in [false, true] {
        let clock = clock();
        let upstream = Upstream::saying(Answer::active());
        let node = outdated(&upstream, &clock).await;
        upstream.say(Answer::status(500));
        assert!(node.principal("token").await.is_stale());
        if forgets_all {
            node.store.clear();
        } else {
            node.store.invalidate(&credential("token"));
        }
        assert_eq!(node.ask("token").await, TRANSIENT);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_never_known_gains_nothing() {
    let clock = clock();
    let upstream = Upstream::saying(Answer::active());
    let node = outdated(&upstream, &clock).await;
    upstream.say(Answer::status(500));
    assert_eq!(node.ask("other").await, TRANSIENT);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_tells_old_answers_without_a_call() {
    let clock = clock();
    let upstream = Upstream::saying(Answer::active());
    let node = outdated(&upstream, &clock).await;
    upstream.say(Answer::status(429));
    for number in 0..5 {
        assert_eq!(node.ask(&format!("other-{number}")).await, TRANSIENT);
    }
    assert_eq!(node.breaker(), BreakerState::Open);
    let before = upstream.calls();
    assert!(node.principal("token").await.is_stale());
    assert_eq!(upstream.calls(), before);
}
