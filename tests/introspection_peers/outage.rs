//! A server that hangs, stops, and restarts.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use test_support::authorization_server::clients::{API, basic};
use test_support::authorization_server::deployment::Deployment;
use test_support::authorization_server::server::AuthorizationServer;
use test_support::authorization_server::wait_until;
use test_support::port::ReservedPort;
use tower_service_token::clock::ManualClock;
use tower_service_token::introspection::{
    BreakerState, IntrospectionBuilder, IntrospectionErrorKind, IntrospectionStore,
};

use crate::SLACK;
use crate::protected_service::ProtectedService;

/// The default timeout of a lookup.
const DEADLINE: Duration = Duration::from_secs(3);

pub(crate) async fn hanging_server_is_unavailable_within_the_deadline(deployment: Arc<Deployment>) {
    let server = deployment.start();
    let store = store_without_cache(&server);
    let service = ProtectedService::new(&store);
    let token = server.token().await;
    assert_eq!(service.status(&token).await, 200);

    server.suspend();
    // The first request uses the pooled connection if there is one, the second a new one.
    for _ in 0..2 {
        let response = service.authenticate(&token).await;
        assert_eq!(response.unavailable(), IntrospectionErrorKind::Transient);
        assert!(
            response.elapsed_without_stalls <= DEADLINE + SLACK,
            "{:?}",
            response.elapsed
        );
    }

    server.resume();
    assert_eq!(service.status(&token).await, 200);
    assert_eq!(service.status("unknown").await, 401);
}

pub(crate) async fn request_to_hanging_server_lasts_until_the_deadline(
    deployment: Arc<Deployment>,
) {
    let server = deployment.start();
    for deadline in [DEADLINE, Duration::from_secs(1)] {
        let store = store(&server, |it| it.with_timeout(deadline));
        let service = ProtectedService::new(&store);
        // This request leaves a connection in the pool.
        assert_eq!(service.status(&server.token().await).await, 200);
        server.suspend();
        let response = service.authenticate("unknown").await;
        assert_eq!(response.unavailable(), IntrospectionErrorKind::Transient);
        assert!(
            response.elapsed + SLACK >= deadline,
            "{:?}",
            response.elapsed
        );
        assert!(
            response.elapsed_without_stalls <= deadline + SLACK,
            "{:?}",
            response.elapsed
        );
        server.resume();
    }
}

pub(crate) async fn recovers_after_an_outage(deployment: Arc<Deployment>) {
    let port = ReservedPort::new();
    let server = deployment.start_on(&port);
    let store = store_without_cache(&server);
    let service = ProtectedService::new(&store);
    let token = server.token().await;
    assert_eq!(service.status(&token).await, 200);

    drop(server);
    for _ in 0..2 {
        let response = service.authenticate(&token).await;
        assert_eq!(response.unavailable(), IntrospectionErrorKind::Transient);
        assert!(
            response.elapsed_without_stalls <= SLACK,
            "{:?}",
            response.elapsed
        );
    }

    let server = deployment.start_on(&port);
    // The server keeps tokens in memory, so the restarted server does not know this one.
    assert_eq!(service.status(&token).await, 401);
    assert_eq!(service.status(&server.token().await).await, 200);
}

pub(crate) async fn request_succeeds_after_a_server_restart(deployment: Arc<Deployment>) {
    let port = ReservedPort::new();
    let server = deployment.start_on(&port);
    let store = store_without_cache(&server);
    let service = ProtectedService::new(&store);
    let token = server.token().await;
    assert_eq!(service.status(&token).await, 200);

    // The stopped server has closed the pooled connection.
    drop(server);
    let server = deployment.start_on(&port);
    let token = server.token().await;
    assert_eq!(service.status(&token).await, 200);
}

pub(crate) async fn server_killed_during_a_call_is_unavailable(deployment: Arc<Deployment>) {
    let server = deployment.start();
    let store = store_without_cache(&server);
    let service = ProtectedService::new(&store);
    let token = server.token().await;
    assert_eq!(service.status(&token).await, 200);

    server.suspend();
    let request = service.authenticate(&token);
    let kill = async {
        wait_until(async || store.status().in_flight == 1).await;
        drop(server);
    };
    let (response, ()) = futures::join!(request, kill);
    assert_eq!(response.unavailable(), IntrospectionErrorKind::Transient);
    assert!(
        response.elapsed_without_stalls < DEADLINE,
        "{:?}",
        response.elapsed
    );
}

pub(crate) async fn repeated_failures_open_the_breaker(deployment: Arc<Deployment>) {
    let port = ReservedPort::new();
    let server = deployment.start_on(&port);
    let store = store_without_cache(&server);
    let service = ProtectedService::new(&store);
    let token = server.token().await;

    drop(server);
    for _ in 0..5 {
        let response = service.authenticate(&token).await;
        assert_eq!(response.unavailable(), IntrospectionErrorKind::Transient);
    }
    assert_eq!(store.status().breaker, BreakerState::Open);
    let response = service.authenticate(&token).await;
    assert_eq!(response.unavailable(), IntrospectionErrorKind::BreakerOpen);

    let server = deployment.start_on(&port);
    let token = server.token().await;
    wait_until(async || service.status(&token).await == 200).await;
    assert_eq!(store.status().breaker, BreakerState::Closed);
}

pub(crate) async fn cached_tokens_are_accepted_for_ttl_during_outage(deployment: Arc<Deployment>) {
    let server = deployment.start();
    let clock = Arc::new(ManualClock::new(SystemTime::now()));
    let store = store(&server, |it| it.with_clock(clock.clone()));
    let service = ProtectedService::new(&store).with_clock(&clock);
    let [good, other] = [server.token().await, server.token().await];
    assert_eq!(service.status(&good).await, 200);
    assert_eq!(service.status("unknown").await, 401);

    server.suspend();
    for _ in 0..100 {
        let hit = service.authenticate(&good).await;
        assert_eq!(hit.status(), 200);
        assert!(hit.elapsed_without_stalls <= SLACK, "{:?}", hit.elapsed);
        assert_eq!(service.status("unknown").await, 401);
    }
    drop(server);
    assert_eq!(service.status(&good).await, 200);
    service.authenticate(&other).await.unavailable();

    clock.advance(Duration::from_secs(2));
    assert_eq!(service.status(&good).await, 200);
    service.authenticate("unknown").await.unavailable();
    clock.advance(Duration::from_secs(8));
    service.authenticate(&good).await.unavailable();
}

pub(crate) async fn serves_stale_entries_only_if_configured(deployment: Arc<Deployment>) {
    let server = deployment.start();
    let clock = Arc::new(ManualClock::new(SystemTime::now()));
    let minute = Duration::from_secs(60);
    let store = store(&server, |it| {
        it.with_stale_if_error(minute).with_clock(clock.clone())
    });
    let service = ProtectedService::new(&store).with_clock(&clock);
    let token = server.token().await;
    assert!(!service.authenticate(&token).await.principal().is_stale());

    drop(server);
    clock.advance(Duration::from_secs(10));
    assert!(service.authenticate(&token).await.principal().is_stale());
    service.authenticate("unknown").await.unavailable();
    clock.advance(minute);
    service.authenticate(&token).await.unavailable();
}

/// Creates a store without a cache, so that each request calls the server.
fn store_without_cache(server: &AuthorizationServer) -> IntrospectionStore {
    store(server, |it| {
        it.with_ttl(Duration::ZERO)
            .with_negative_ttl(Duration::ZERO)
    })
}

fn store(
    server: &AuthorizationServer,
    configure: impl FnOnce(IntrospectionBuilder) -> IntrospectionBuilder,
) -> IntrospectionStore {
    let builder = configure(server.builder(basic(API)));
    builder.build(&server.endpoint()).unwrap()
}
