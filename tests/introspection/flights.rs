//! Calls are shared, outlive the requests that began them, fail, panic and run out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};
use tower_service_token::store::Cached;

use crate::node::{
    Accepted, Kind, MILLISECOND, Node, SECOND, TRANSIENT, Unavailable, clock, settle,
};
use crate::upstream::{Answer, Upstream};

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_for_one_token_make_one_call() {
    for (answer, token) in [(Answer::active(), "good"), (Answer::inactive(), "junk")] {
        let upstream = Upstream::saying(answer);
        let node = Node::new(&upstream, &clock());
        let outcomes = join_all((0..1000).map(|_| node.ask(token))).await;
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
        assert_eq!(upstream.calls(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_requests_on_several_threads_make_one_call() {
    let upstream = Upstream::saying(Answer::active());
    let node = Node::new(&upstream, &clock());
    let requests = (0..1000).map(|_| node.spawn("token"));
    for outcome in join_all(requests).await {
        assert_eq!(outcome.unwrap(), Accepted);
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_first_caller_dropped_neither_cancels_nor_fails_the_others() {
    let upstream = Upstream::saying(Answer::active());
    let node = Node::new(&upstream, &clock());
    upstream.answered().close();
    let first = node.spawn("token");
    upstream.answered().reached().await;
    let others: Vec<_> = (0..10).map(|_| node.spawn("token")).collect();
    settle().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    upstream.answered().let_go();
    for outcome in join_all(others).await {
        assert_eq!(outcome.unwrap(), Accepted);
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_all_callers_are_dropped_the_answer_is_remembered_all_the_same() {
    let upstream = Upstream::saying(Answer::active());
    let node = Node::new(&upstream, &clock());
    upstream.answered().close();
    let callers: Vec<_> = (0..10).map(|_| node.spawn("token")).collect();
    upstream.answered().reached().await;
    settle().await;
    for caller in callers {
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
    }
    assert!(matches!(node.remembered("token"), Cached::Ask));
    assert_eq!(node.store.status().in_flight, 1);
    upstream.answered().let_go();
    settle().await;
    assert!(matches!(node.remembered("token"), Cached::Found(_)));
    assert_eq!(node.store.status().in_flight, 0);
    assert_eq!(node.ask("token").await, Accepted);
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_transport_fails_those_who_wait_and_nobody_else() {
    let upstream = Upstream::saying(Answer::Panic);
    let node = Node::new(&upstream, &clock());
    let requests: Vec<_> = (0..10).map(|_| node.spawn("token")).collect();
    for outcome in join_all(requests).await {
        assert_eq!(outcome.unwrap(), TRANSIENT);
    }
    assert!(upstream.calls() <= 2, "{}", upstream.calls());
    assert_eq!(node.store.status().in_flight, 0);
    upstream.say(Answer::active());
    assert_eq!(node.ask("token").await, Accepted);
}

/// An upstream that fails its first call for a passing reason, and a node where ten requests wait
/// for that call.
async fn fails_once(
    answer: Answer,
) -> (Upstream, Vec<tokio::task::JoinHandle<crate::node::Outcome>>) {
    let upstream = Upstream::saying(answer);
    let node = Node::new(&upstream, &clock());
    upstream.answered().close();
    let requests: Vec<_> = (0..10).map(|_| node.spawn("token")).collect();
    upstream.answered().reached().await;
    settle().await;
    upstream.answered().reopen();
    (upstream, requests)
}

#[tokio::test(start_paused = true)]
async fn after_a_passing_failure_those_with_time_left_make_one_more_call_together() {
    let (upstream, requests) = fails_once(Answer::status(429)).await;
    upstream.say(Answer::active());
    upstream.answered().let_go();
    let outcomes = join_all(requests).await;
    let accepted = outcomes
        .iter()
        .filter(|it| *it.as_ref().unwrap() == Accepted);
    assert!(accepted.count() >= 9, "{outcomes:?}");
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_lasts_costs_those_who_wait_one_more_call_together() {
    let (upstream, requests) = fails_once(Answer::status(429)).await;
    upstream.answered().let_go();
    for outcome in join_all(requests).await {
        assert_eq!(outcome.unwrap(), TRANSIENT);
    }
    assert!(upstream.calls() <= 2, "{}", upstream.calls());
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_does_not_pass_is_told_to_all_at_once() {
    let (upstream, requests) = fails_once(Answer::status(401)).await;
    upstream.answered().let_go();
    for outcome in join_all(requests).await {
        assert_eq!(outcome.unwrap(), Unavailable(Kind::Credentials));
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_who_waits_has_a_deadline_of_its_own() {
    let upstream = Upstream::saying(Answer::Hang);
    let node = Node::new(&upstream, &clock());
    let timed = |delay: Duration| {
        let node = node.clone();
        tokio::spawn(async move {
            sleep(delay).await;
            let begun = Instant::now();
            let outcome = node.ask("token").await;
            (outcome, begun.elapsed())
        })
    };
    let requests: Vec<_> = (0..6).map(|number| timed(number * SECOND)).collect();
    for request in join_all(requests).await {
        let (outcome, elapsed) = request.unwrap();
        assert_eq!(outcome, TRANSIENT);
        assert!(elapsed <= 3 * SECOND + 10 * MILLISECOND, "{elapsed:?}");
    }
    // The last call may have begun when the last request gave up.
    sleep(3 * SECOND + 10 * MILLISECOND).await;
    assert_eq!(node.store.status().in_flight, 0);
    assert!(upstream.calls() <= 4, "{}", upstream.calls());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_unavailable_after_the_deadline_and_asked_once() {
    for timeout in [3 * SECOND, 700 * MILLISECOND] {
        let upstream = Upstream::saying(Answer::Hang);
        let node = Node::with(&upstream, &clock(), |builder| builder.with_timeout(timeout));
        let begun = Instant::now();
        assert_eq!(node.ask("token").await, TRANSIENT);
        let elapsed = begun.elapsed();
        assert!(
            (timeout..timeout + 10 * MILLISECOND).contains(&elapsed),
            "{elapsed:?}"
        );
        assert_eq!(upstream.calls(), 1);
        settle().await;
        assert_eq!(node.store.status().in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_covers_the_retry() {
    let slow = Arc::new(AtomicBool::new(false));
    let upstream = Upstream::new({
        let slow = Arc::clone(&slow);
        move |_| {
            if slow.swap(true, Ordering::SeqCst) {
                Answer::Hang
            } else {
                Answer::status(503)
            }
        }
    });
    let node = Node::new(&upstream, &clock());
    upstream.answered().close();
    let request = node.spawn("token");
    upstream.answered().reached().await;
    let begun = Instant::now();
    sleep(2 * SECOND).await;
    upstream.answered().reopen();
    upstream.answered().let_go();
    assert_eq!(request.await.unwrap(), TRANSIENT);
    let elapsed = begun.elapsed();
    assert!(elapsed <= 3 * SECOND + 10 * MILLISECOND, "{elapsed:?}");
    assert!(elapsed >= 2 * SECOND + 900 * MILLISECOND, "{elapsed:?}");
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_answered_is_as_good_as_the_first_attempt() {
    for status in [502, 503, 504] {
        let upstream = Upstream::new(move |call| match call.number {
            0 => Answer::status(status),
            _ => Answer::active(),
        });
        let node = Node::new(&upstream, &clock());
        assert_eq!(node.ask("token").await, Accepted);
        assert_eq!(upstream.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_64_calls_a_request_waits_shortly_and_gives_up() {
    let upstream = Upstream::saying(Answer::active());
    let node = Node::new(&upstream, &clock());
    assert_eq!(node.ask("known").await, Accepted);
    upstream.answered().close();
    let running: Vec<_> = (0..64)
        .map(|number| node.spawn(&format!("token-{number}")))
        .collect();
    for _ in &running {
        upstream.answered().reached().await;
    }
    assert_eq!(node.store.status().in_flight, 64);

    let begun = Instant::now();
    assert_eq!(node.ask("known").await, Accepted, "hits are not affected");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let joining = node.spawn("token-0");
    assert_eq!(node.ask("beyond").await, Unavailable(Kind::Overloaded));
    let waited = begun.elapsed();
    assert!(
        (MILLISECOND..=SECOND + 10 * MILLISECOND).contains(&waited),
        "{waited:?}"
    );
    assert_eq!(upstream.calls(), 65);

    // Who waits gets the first place that is free.
    let waiting = node.spawn("beyond");
    settle().await;
    upstream.answered().reopen();
    for _ in &running {
        upstream.answered().let_go();
    }
    for request in running.into_iter().chain([joining, waiting]) {
        assert_eq!(request.await.unwrap(), Accepted);
    }
    assert_eq!(upstream.calls(), 66);
    assert_eq!(upstream.most_running(), 64);
}

#[tokio::test(start_paused = true)]
async fn how_many_calls_run_can_be_set() {
    let upstream = Upstream::saying(Answer::active());
    let node = Node::with(&upstream, &clock(), |builder| builder.with_max_in_flight(2));
    let tokens: Vec<_> = (0..100).map(|number| format!("token-{number}")).collect();
    let outcomes = join_all(tokens.iter().map(|token| node.ask(token))).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Accepted));
    assert_eq!(upstream.most_running(), 2);
}

#[test]
fn without_a_runtime_a_hit_is_a_hit_and_a_miss_is_unavailable() {
    let upstream = Upstream::saying(Answer::active());
    let node = Node::new(&upstream, &clock());
    let unavailable = futures::executor::block_on(node.find("token"));
    assert!(unavailable.is_err());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    assert_eq!(runtime.unwrap().block_on(node.ask("token")), Accepted);
    assert!(matches!(node.remembered("token"), Cached::Found(_)));
    assert_eq!(futures::executor::block_on(node.ask("token")), Accepted);
}

#[test]
fn a_runtime_that_is_shut_down_fails_its_calls_and_leaves_the_store_usable() {
    let upstream = Upstream::saying(Answer::active());
    let node = Node::new(&upstream, &clock());
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    upstream.answered().close();
    let first = runtime();
    first.block_on(async {
        let _request = node.spawn("token");
        upstream.answered().reached().await;
    });
    assert_eq!(node.store.status().in_flight, 1);
    drop(first);
    assert_eq!(node.store.status().in_flight, 0);
    upstream.answered().reopen();
    assert_eq!(runtime().block_on(node.ask("token")), Accepted);
}
