//! A server that hangs, is gone, and comes back.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tower_service_token::clock::ManualClock;
use tower_service_token::store::{
    BreakerState, IntrospectionBuilder, IntrospectionErrorKind, IntrospectionStore,
};

use crate::clients::{API, basic};
use crate::guarded::Guarded;
use crate::port::ReservedPort;
use crate::server::AuthorizationServer;
use crate::site::Site;
use crate::{SLACK, until};

/// How long a lookup may take by default.
const DEADLINE: Duration = Duration::from_secs(3);

pub(crate) async fn a_hung_server_is_unavailable_within_the_deadline(site: Arc<Site>) {
    let server = site.start();
    let store = forgetful(&server);
    let service = Guarded::by(&store);
    let token = server.token().await;
    assert_eq!(service.status(&token).await, 200);

    server.suspend();
    // Over the connection that was kept, if it was, and over a new one.
    for _ in 0..2 {
        let answer = service.ask(&token).await;
        assert_eq!(answer.unavailable(), IntrospectionErrorKind::Transient);
        assert!(answer.unstalled <= DEADLINE + SLACK, "{:?}", answer.took);
    }

    server.resume();
    assert_eq!(service.status(&token).await, 200);
    assert_eq!(service.status("unknown").await, 401);
}

pub(crate) async fn a_server_that_hangs_has_the_whole_deadline(site: Arc<Site>) {
    let server = site.start();
    for deadline in [DEADLINE, Duration::from_secs(1)] {
        let store = store(&server, |it| it.with_timeout(deadline));
        let service = Guarded::by(&store);
        // Leaves a connection.
        assert_eq!(service.status(&server.token().await).await, 200);
        server.suspend();
        let answer = service.ask("unknown").await;
        assert_eq!(answer.unavailable(), IntrospectionErrorKind::Transient);
        assert!(answer.took + SLACK >= deadline, "{:?}", answer.took);
        assert!(answer.unstalled <= deadline + SLACK, "{:?}", answer.took);
        server.resume();
    }
}

pub(crate) async fn a_server_that_is_gone_and_comes_back_is_used_again(site: Arc<Site>) {
    let port = ReservedPort::new();
    let server = site.start_on(&port);
    let store = forgetful(&server);
    let service = Guarded::by(&store);
    let token = server.token().await;
    assert_eq!(service.status(&token).await, 200);

    drop(server);
    for _ in 0..2 {
        let answer = service.ask(&token).await;
        assert_eq!(answer.unavailable(), IntrospectionErrorKind::Transient);
        assert!(answer.unstalled <= SLACK, "{:?}", answer.took);
    }

    let server = site.start_on(&port);
    // It keeps its tokens in memory.
    assert_eq!(service.status(&token).await, 401);
    assert_eq!(service.status(&server.token().await).await, 200);
}

pub(crate) async fn a_restart_between_two_requests_is_not_noticed(site: Arc<Site>) {
    let port = ReservedPort::new();
    let server = site.start_on(&port);
    let store = forgetful(&server);
    let service = Guarded::by(&store);
    let token = server.token().await;
    assert_eq!(service.status(&token).await, 200);

    // The connection that was kept is closed by now.
    drop(server);
    let server = site.start_on(&port);
    let token = server.token().await;
    assert_eq!(service.status(&token).await, 200);
}

pub(crate) async fn a_server_killed_while_it_is_asked_is_unavailable(site: Arc<Site>) {
    let server = site.start();
    let store = forgetful(&server);
    let service = Guarded::by(&store);
    let token = server.token().await;
    assert_eq!(service.status(&token).await, 200);

    server.suspend();
    let asking = service.ask(&token);
    let killing = async {
        until(async || store.status().in_flight == 1).await;
        drop(server);
    };
    let (answer, ()) = futures::join!(asking, killing);
    assert_eq!(answer.unavailable(), IntrospectionErrorKind::Transient);
    assert!(answer.unstalled < DEADLINE, "{:?}", answer.took);
}

pub(crate) async fn after_many_failures_the_server_is_left_alone_for_a_while(site: Arc<Site>) {
    let port = ReservedPort::new();
    let server = site.start_on(&port);
    let store = forgetful(&server);
    let service = Guarded::by(&store);
    let token = server.token().await;

    drop(server);
    for _ in 0..5 {
        let answer = service.ask(&token).await;
        assert_eq!(answer.unavailable(), IntrospectionErrorKind::Transient);
    }
    assert_eq!(store.status().breaker, BreakerState::Open);
    let answer = service.ask(&token).await;
    assert_eq!(answer.unavailable(), IntrospectionErrorKind::BreakerOpen);

    let server = site.start_on(&port);
    let token = server.token().await;
    until(async || service.status(&token).await == 200).await;
    assert_eq!(store.status().breaker, BreakerState::Closed);
}

pub(crate) async fn what_is_remembered_outlives_the_server_for_its_time_to_live(site: Arc<Site>) {
    let server = site.start();
    let clock = Arc::new(ManualClock::new(SystemTime::now()));
    let store = store(&server, |it| it.with_clock(clock.clone()));
    let service = Guarded::by(&store).with_clock(&clock);
    let [good, other] = [server.token().await, server.token().await];
    assert_eq!(service.status(&good).await, 200);
    assert_eq!(service.status("unknown").await, 401);

    server.suspend();
    for _ in 0..100 {
        let hit = service.ask(&good).await;
        assert_eq!(hit.status(), 200);
        assert!(hit.unstalled <= SLACK, "{:?}", hit.took);
        assert_eq!(service.status("unknown").await, 401);
    }
    drop(server);
    assert_eq!(service.status(&good).await, 200);
    service.ask(&other).await.unavailable();

    clock.advance(Duration::from_secs(2));
    assert_eq!(service.status(&good).await, 200);
    service.ask("unknown").await.unavailable();
    clock.advance(Duration::from_secs(8));
    service.ask(&good).await.unavailable();
}

pub(crate) async fn a_stale_answer_is_given_only_if_that_was_asked_for(site: Arc<Site>) {
    let server = site.start();
    let clock = Arc::new(ManualClock::new(SystemTime::now()));
    let minute = Duration::from_secs(60);
    let store = store(&server, |it| {
        it.with_stale_if_error(minute).with_clock(clock.clone())
    });
    let service = Guarded::by(&store).with_clock(&clock);
    let token = server.token().await;
    assert!(!service.ask(&token).await.principal().is_stale());

    drop(server);
    clock.advance(Duration::from_secs(10));
    assert!(service.ask(&token).await.principal().is_stale());
    service.ask("unknown").await.unavailable();
    clock.advance(minute);
    service.ask(&token).await.unavailable();
}

/// A store that remembers nothing, so that each request asks the server.
fn forgetful(server: &AuthorizationServer) -> IntrospectionStore {
    store(server, |it| {
        it.with_ttl(Duration::ZERO)
            .with_negative_ttl(Duration::ZERO)
    })
}

fn store(
    server: &AuthorizationServer,
    set_up: impl FnOnce(IntrospectionBuilder) -> IntrospectionBuilder,
) -> IntrospectionStore {
    let builder = set_up(server.builder(basic(API)));
    builder.build(&server.endpoint()).unwrap()
}
