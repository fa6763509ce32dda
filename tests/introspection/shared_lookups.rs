//! Calls are shared between requests, continue after their requests are dropped, and are limited.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tests::time_steps::run_other_tasks;
use tokio::time::{Instant, sleep};
use tower_service_token::store::Cached;

use crate::protected_service::{
    Accepted, Kind, MILLISECOND, ProtectedService, SECOND, TRANSIENT, Unavailable, clock,
};
use crate::upstream::{MockResponse, Upstream};

#[tokio::test(start_paused = true)]
async fn thousand_requests_for_one_token_share_one_call() {
    for (response, token) in [
        (MockResponse::active(), "active"),
        (MockResponse::inactive(), "inactive"),
    ] {
        let upstream = Upstream::responding(response);
        let service = ProtectedService::new(&upstream, &clock());
        let outcomes = join_all((0..1000).map(|_| service.authenticate(token))).await;
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
        assert_eq!(upstream.calls(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thousand_requests_on_several_threads_share_one_call() {
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::new(&upstream, &clock());
    let requests = (0..1000).map(|_| service.spawn("token"));
    for outcome in join_all(requests).await {
        assert_eq!(outcome.unwrap(), Accepted);
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_first_caller_does_not_affect_waiters() {
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::new(&upstream, &clock());
    upstream.before_response().close();
    let first = service.spawn("token");
    upstream.before_response().wait_until_reached().await;
    let others: Vec<_> = (0..10).map(|_| service.spawn("token")).collect();
    run_other_tasks().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    upstream.before_response().resume_one();
    for outcome in join_all(others).await {
        assert_eq!(outcome.unwrap(), Accepted);
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn caches_result_after_all_callers_are_dropped() {
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::new(&upstream, &clock());
    upstream.before_response().close();
    let callers: Vec<_> = (0..10).map(|_| service.spawn("token")).collect();
    upstream.before_response().wait_until_reached().await;
    run_other_tasks().await;
    for caller in callers {
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
    }
    assert!(matches!(service.find_cached("token"), Cached::Miss));
    assert_eq!(service.store.status().in_flight, 1);
    upstream.before_response().resume_one();
    run_other_tasks().await;
    assert!(matches!(service.find_cached("token"), Cached::Found(_)));
    assert_eq!(service.store.status().in_flight, 0);
    assert_eq!(service.authenticate("token").await, Accepted);
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn transport_panic_fails_only_the_waiting_requests() {
    let upstream = Upstream::responding(MockResponse::Panic);
    let service = ProtectedService::new(&upstream, &clock());
    let requests: Vec<_> = (0..10).map(|_| service.spawn("token")).collect();
    for outcome in join_all(requests).await {
        assert_eq!(outcome.unwrap(), TRANSIENT);
    }
    assert!(upstream.calls() <= 2, "{}", upstream.calls());
    assert_eq!(service.store.status().in_flight, 0);
    upstream.respond_with(MockResponse::active());
    assert_eq!(service.authenticate("token").await, Accepted);
}

/// Starts ten requests that wait for one call, whose response is `response`.
async fn start_waiting_requests(
    response: MockResponse,
) -> (
    Upstream,
    Vec<tokio::task::JoinHandle<crate::protected_service::Outcome>>,
) {
    let upstream = Upstream::responding(response);
    let service = ProtectedService::new(&upstream, &clock());
    upstream.before_response().close();
    let requests: Vec<_> = (0..10).map(|_| service.spawn("token")).collect();
    upstream.before_response().wait_until_reached().await;
    run_other_tasks().await;
    upstream.before_response().reopen();
    (upstream, requests)
}

#[tokio::test(start_paused = true)]
async fn waiters_share_one_retry_after_a_transient_failure() {
    let (upstream, requests) = start_waiting_requests(MockResponse::status(429)).await;
    upstream.respond_with(MockResponse::active());
    upstream.before_response().resume_one();
    let outcomes = join_all(requests).await;
    let accepted = outcomes
        .iter()
        .filter(|it| *it.as_ref().unwrap() == Accepted);
    assert!(accepted.count() >= 9, "{outcomes:?}");
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn repeated_failure_causes_one_shared_retry() {
    let (upstream, requests) = start_waiting_requests(MockResponse::status(429)).await;
    upstream.before_response().resume_one();
    for outcome in join_all(requests).await {
        assert_eq!(outcome.unwrap(), TRANSIENT);
    }
    assert!(upstream.calls() <= 2, "{}", upstream.calls());
}

#[tokio::test(start_paused = true)]
async fn permanent_failure_is_returned_to_all_waiters() {
    let (upstream, requests) = start_waiting_requests(MockResponse::status(401)).await;
    upstream.before_response().resume_one();
    for outcome in join_all(requests).await {
        assert_eq!(outcome.unwrap(), Unavailable(Kind::Credentials));
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_waiter_has_its_own_deadline() {
    let upstream = Upstream::responding(MockResponse::Hang);
    let service = ProtectedService::new(&upstream, &clock());
    let timed_request = |delay: Duration| {
        let service = service.clone();
        tokio::spawn(async move {
            sleep(delay).await;
            let started = Instant::now();
            let outcome = service.authenticate("token").await;
            (outcome, started.elapsed())
        })
    };
    let requests: Vec<_> = (0..6)
        .map(|number| timed_request(number * SECOND))
        .collect();
    for request in join_all(requests).await {
        let (outcome, elapsed) = request.unwrap();
        assert_eq!(outcome, TRANSIENT);
        assert!(elapsed <= 3 * SECOND + 10 * MILLISECOND, "{elapsed:?}");
    }
    // The last call may have started when the last request timed out, so it gets another timeout.
    sleep(3 * SECOND + 10 * MILLISECOND).await;
    assert_eq!(service.store.status().in_flight, 0);
    assert!(upstream.calls() <= 4, "{}", upstream.calls());
}

#[tokio::test(start_paused = true)]
async fn hanging_server_times_out_after_one_call() {
    for timeout in [3 * SECOND, 700 * MILLISECOND] {
        let upstream = Upstream::responding(MockResponse::Hang);
        let service =
            ProtectedService::with(&upstream, &clock(), |builder| builder.with_timeout(timeout));
        let started = Instant::now();
        assert_eq!(service.authenticate("token").await, TRANSIENT);
        let elapsed = started.elapsed();
        assert!(
            (timeout..timeout + 10 * MILLISECOND).contains(&elapsed),
            "{elapsed:?}"
        );
        assert_eq!(upstream.calls(), 1);
        run_other_tasks().await;
        assert_eq!(service.store.status().in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn deadline_includes_the_retry() {
    let was_called = Arc::new(AtomicBool::new(false));
    let upstream = Upstream::new({
        let was_called = Arc::clone(&was_called);
        move |_| {
            if was_called.swap(true, Ordering::SeqCst) {
                MockResponse::Hang
            } else {
                MockResponse::status(503)
            }
        }
    });
    let service = ProtectedService::new(&upstream, &clock());
    upstream.before_response().close();
    let request = service.spawn("token");
    upstream.before_response().wait_until_reached().await;
    let started = Instant::now();
    sleep(2 * SECOND).await;
    upstream.before_response().reopen();
    upstream.before_response().resume_one();
    assert_eq!(request.await.unwrap(), TRANSIENT);
    let elapsed = started.elapsed();
    assert!(elapsed <= 3 * SECOND + 10 * MILLISECOND, "{elapsed:?}");
    assert!(elapsed >= 2 * SECOND + 900 * MILLISECOND, "{elapsed:?}");
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn successful_retry_is_accepted() {
    for status in [502, 503, 504] {
        let upstream = Upstream::new(move |call| match call.number {
            0 => MockResponse::status(status),
            _ => MockResponse::active(),
        });
        let service = ProtectedService::new(&upstream, &clock());
        assert_eq!(service.authenticate("token").await, Accepted);
        assert_eq!(upstream.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_64_calls_wait_then_fail() {
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::new(&upstream, &clock());
    assert_eq!(service.authenticate("known").await, Accepted);
    upstream.before_response().close();
    let running: Vec<_> = (0..64)
        .map(|number| service.spawn(&format!("token-{number}")))
        .collect();
    for _ in &running {
        upstream.before_response().wait_until_reached().await;
    }
    assert_eq!(service.store.status().in_flight, 64);

    let started = Instant::now();
    assert_eq!(
        service.authenticate("known").await,
        Accepted,
        "cache hits need no permit"
    );
    assert_eq!(started.elapsed(), Duration::ZERO);
    let joining = service.spawn("token-0");
    assert_eq!(
        service.authenticate("beyond").await,
        Unavailable(Kind::Overloaded)
    );
    let waited = started.elapsed();
    assert!(
        (MILLISECOND..=SECOND + 10 * MILLISECOND).contains(&waited),
        "{waited:?}"
    );
    assert_eq!(upstream.calls(), 65);

    // A waiting request gets the first free permit.
    let waiting = service.spawn("beyond");
    run_other_tasks().await;
    upstream.before_response().reopen();
    for _ in &running {
        upstream.before_response().resume_one();
    }
    for request in running.into_iter().chain([joining, waiting]) {
        assert_eq!(request.await.unwrap(), Accepted);
    }
    assert_eq!(upstream.calls(), 66);
    assert_eq!(upstream.max_concurrent(), 64);
}

#[tokio::test(start_paused = true)]
async fn max_in_flight_is_configurable() {
    let upstream = Upstream::responding(MockResponse::active());
    let service =
        ProtectedService::with(&upstream, &clock(), |builder| builder.with_max_in_flight(2));
    let tokens: Vec<_> = (0..100).map(|number| format!("token-{number}")).collect();
    let outcomes = join_all(tokens.iter().map(|token| service.authenticate(token))).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Accepted));
    assert_eq!(upstream.max_concurrent(), 2);
}

#[test]
fn without_runtime_hits_succeed_and_misses_are_unavailable() {
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::new(&upstream, &clock());
    let unavailable = futures::executor::block_on(service.find("token"));
    assert!(unavailable.is_err());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    assert_eq!(
        runtime.unwrap().block_on(service.authenticate("token")),
        Accepted
    );
    assert!(matches!(service.find_cached("token"), Cached::Found(_)));
    assert_eq!(
        futures::executor::block_on(service.authenticate("token")),
        Accepted
    );
}

#[test]
fn runtime_shutdown_fails_its_calls_and_keeps_the_store_usable() {
    let upstream = Upstream::responding(MockResponse::active());
    let service = ProtectedService::new(&upstream, &clock());
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    upstream.before_response().close();
    let first = runtime();
    first.block_on(async {
        let _request = service.spawn("token");
        upstream.before_response().wait_until_reached().await;
    });
    assert_eq!(service.store.status().in_flight, 1);
    drop(first);
    assert_eq!(service.store.status().in_flight, 0);
    upstream.before_response().reopen();
    assert_eq!(runtime().block_on(service.authenticate("token")), Accepted);
}
