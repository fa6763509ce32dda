//! Failure limits: unknown tokens count against the client that sends them.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{HeaderName, Request};
use tower_service_token::MemoryStore;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::limits::{ClientAddressLayer, FailureLimit};
use tower_service_token::store::CachedStore;
use tower_service_token::testing::{Fault, FaultyStore};

use crate::endpoints::server::{
    DAMAGED, FORM, INACTIVE, SECOND, Server, TestResponse, UNKNOWN, form,
};

fn burst_of_three(limit: FailureLimit) -> FailureLimit {
    limit
        .with_burst(NonZeroU32::new(3).unwrap())
        .with_interval(SECOND)
}

/// Verifies a token from this peer address.
async fn verify_from(server: &Server, peer: &str, token: &str) -> TestResponse {
    let address: IpAddr = peer.parse().unwrap();
    let mut request = Request::get("/verify").header("x-api-key", token);
    let extensions = request.extensions_mut().unwrap();
    extensions.insert(ConnectInfo(SocketAddr::new(address, 4000)));
    server.send(request.body(Body::empty()).unwrap()).await
}

fn assert_limited(response: &TestResponse, seconds: &str) {
    response.assert_problem(429, "rate_limited");
    assert_eq!(response.header("retry-after"), seconds);
    assert_eq!(response.challenges(), [""; 0]);
}

#[tokio::test]
async fn limits_failures_without_lookups() {
    let server = Server::with_limit(MemoryStore::new(), burst_of_three).await;
    let good = server.create(NewToken::new("ci")).await;
    for _ in 0..3 {
        assert_eq!(server.verify("", UNKNOWN).await.status, 401);
    }
    for token in [UNKNOWN, DAMAGED] {
        assert_limited(&server.verify("", token).await, "1");
    }
    assert_eq!(server.verify("", good.expose_secret()).await.status, 200);
    server.clock.advance(SECOND);
    assert_eq!(server.verify("", good.expose_secret()).await.status, 200);
    assert_eq!(server.verify("", UNKNOWN).await.status, 401);
    assert_limited(&server.verify("", UNKNOWN).await, "1");
    server.clock.advance(SECOND * 10);
    for status in [401, 401, 401, 429] {
        assert_eq!(server.verify("", UNKNOWN).await.status, status);
    }
}

#[tokio::test]
async fn well_formed_tokens_are_looked_up_beyond_the_budget() {
    let store = FaultyStore::new(MemoryStore::new());
    let server = Server::with_limit(store.clone(), burst_of_three).await;
    let good = server.create(NewToken::new("ci")).await;
    for _ in 0..3 {
        assert_eq!(server.verify("", DAMAGED).await.status, 401);
    }
    let calls = store.calls();
    assert_limited(&server.verify("", DAMAGED).await, "1");
    assert_eq!(store.calls(), calls);
    assert_eq!(server.verify("", UNKNOWN).await.status, 401);
    assert_eq!(server.verify("", good.expose_secret()).await.status, 200);
    assert_eq!(store.calls(), calls + 2);
}

#[tokio::test]
async fn default_limit_is_100_failures_and_10_per_second() {
    let server = Server::in_memory().await;
    for _ in 0..100 {
        assert_eq!(server.verify("", UNKNOWN).await.status, 401);
    }
    assert_limited(&server.verify("", UNKNOWN).await, "1");
    server.clock.advance(Duration::from_millis(99));
    assert_eq!(server.verify("", UNKNOWN).await.status, 429);
    server.clock.advance(Duration::from_millis(1));
    assert_eq!(server.verify("", UNKNOWN).await.status, 401);
    assert_eq!(server.verify("", UNKNOWN).await.status, 429);
}

#[tokio::test]
async fn cached_tokens_are_accepted_at_the_limit() {
    let store = FaultyStore::new(MemoryStore::new());
    let server = Server::with_limit(CachedStore::new(store), burst_of_three).await;
    let good = server.create(NewToken::new("ci")).await;
    let caller = server.caller.clone();
    for token in [good.expose_secret(), caller.expose_secret()] {
        assert_eq!(server.verify("", token).await.status, 200);
    }
    for _ in 0..10 {
        server.verify("", UNKNOWN).await;
        server.introspect(UNKNOWN).await;
    }
    assert_limited(&server.verify("", UNKNOWN).await, "1");
    assert_eq!(server.verify("", good.expose_secret()).await.status, 200);
    assert_limited(&server.introspect(UNKNOWN).await, "1");
    let response = server.introspect(good.expose_secret()).await;
    assert_eq!(response.json()["active"], true);
    // A token that is not cached is still looked up.
    let other = server.create(NewToken::new("other")).await;
    assert_eq!(server.verify("", other.expose_secret()).await.status, 200);
    let other = server.create(NewToken::new("another")).await;
    let response = server.introspect(other.expose_secret()).await;
    assert_eq!(response.json()["active"], true);
}

#[tokio::test]
async fn services_have_separate_budgets() {
    let server = Server::with_limit(MemoryStore::new(), burst_of_three).await;
    for _ in 0..3 {
        assert_eq!(server.introspect(UNKNOWN).await.body, INACTIVE);
    }
    let response = server.introspect(UNKNOWN).await;
    assert_limited(&response, "1");
    assert!(
        !response.body.contains("active\":false"),
        "{}",
        response.body
    );
    let new = NewToken::new("shop").with_scopes(["introspect"]);
    let other = server.create(new).await;
    let other = Server {
        caller: other.into(),
        ..server.clone()
    };
    assert_eq!(other.introspect(UNKNOWN).await.body, INACTIVE);
    // The address has its own budget.
    assert_eq!(server.verify("", UNKNOWN).await.status, 401);
}

#[tokio::test]
async fn caller_failures_count_towards_their_address() {
    let server = Server::with_limit(FaultyStore::new(MemoryStore::new()), burst_of_three).await;
    let id = server.caller.record().id();
    let introspect_with = |header: &str| {
        let request = Request::post("/introspect").header("content-type", FORM);
        let request = request.header("authorization", header);
        request.body(form(&[("token", "x")])).unwrap()
    };
    let basic = |user: &str, password: &str| {
        use base64::Engine;
        let pair = format!("{user}:{password}");
        format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(pair)
        )
    };
    let secret = server.caller.expose_secret();
    for header in [
        format!("ApiKey {UNKNOWN}"),
        basic("0000000000", secret),
        basic("not-an-id", UNKNOWN),
    ] {
        assert_eq!(
            server.send(introspect_with(&header)).await.status,
            401,
            "{header}"
        );
    }
    let good = server
        .send(introspect_with(&basic(&id.to_string(), secret)))
        .await;
    assert_eq!(good.status, 200);
    let response = server.revoke(DAMAGED).await;
    assert_limited(&response, "1");
}

#[tokio::test]
async fn limits_revocations_of_unknown_tokens() {
    let server = Server::with_limit(MemoryStore::new(), burst_of_three).await;
    for (token, status) in [(UNKNOWN, 200), (DAMAGED, 400), ("no token at all", 400)] {
        assert_eq!(server.revoke(token).await.status, status);
    }
    for token in [UNKNOWN, DAMAGED, "no token at all"] {
        assert_limited(&server.revoke(token).await, "1");
    }
}

#[tokio::test]
async fn only_unknown_tokens_use_up_the_budget() {
    let (store, burst) = (FaultyStore::new(MemoryStore::new()), NonZeroU32::MIN);
    let server = Server::with_limit(store.clone(), |limit| limit.with_burst(burst)).await;
    let revoked = server.create(NewToken::new("ci")).await;
    server.tokens.revoke(revoked.record().id()).await.unwrap();
    for _ in 0..5 {
        assert_eq!(server.verify("", revoked.expose_secret()).await.status, 401);
        assert_eq!(
            server
                .verify("?role=admin", server.caller.expose_secret())
                .await
                .status,
            403
        );
        assert_eq!(server.verify("", "two words").await.status, 400);
        assert_eq!(server.verify("?roles=x", UNKNOWN).await.status, 400);
        let none = Request::get("/verify").body(Body::empty()).unwrap();
        assert_eq!(server.send(none).await.status, 401);
        store.inject(Fault::Error);
        assert_eq!(server.verify("", UNKNOWN).await.status, 503);
        store.clear_fault();
    }
    assert_eq!(server.verify("", UNKNOWN).await.status, 401);
    assert_eq!(server.verify("", DAMAGED).await.status, 429);
}

#[tokio::test]
async fn addresses_have_separate_budgets() {
    let server = Server::with_limit(MemoryStore::new(), burst_of_three).await;
    for (first_client, same_client, other_client) in [
        ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9", "2001:db8:0:2::1"),
    ] {
        for _ in 0..3 {
            assert_eq!(
                verify_from(&server, first_client, UNKNOWN).await.status,
                401
            );
        }
        assert_eq!(
            verify_from(&server, first_client, UNKNOWN).await.status,
            429
        );
        assert_eq!(verify_from(&server, same_client, UNKNOWN).await.status, 429);
        assert_eq!(
            verify_from(&server, other_client, UNKNOWN).await.status,
            401
        );
    }
}

#[tokio::test]
async fn client_address_header_is_ignored_unless_configured() {
    let request = |address: &str| {
        let request = Request::get("/verify").header("x-api-key", UNKNOWN);
        let request = request.header("x-real-ip", address);
        request.body(Body::empty()).unwrap()
    };
    let without_header = Server::with_limit(MemoryStore::new(), burst_of_three).await;
    for (number, status) in [401, 401, 401, 429].into_iter().enumerate() {
        let response = without_header
            .send(request(&format!("192.0.2.{number}")))
            .await;
        assert_eq!(response.status, status);
    }
    let mut with_header = Server::with_limit(MemoryStore::new(), burst_of_three).await;
    let addresses = ClientAddressLayer::new()
        .with_trusted_proxies("10.0.0.1".parse().unwrap())
        .with_header(HeaderName::from_static("x-real-ip"));
    with_header.app = with_header.app.layer(addresses);
    let request = |address: &str| {
        let mut request = request(address);
        let proxy = SocketAddr::from(([10, 0, 0, 1], 4000));
        request.extensions_mut().insert(ConnectInfo(proxy));
        request
    };
    for number in 0..10 {
        let response = with_header
            .send(request(&format!("192.0.2.{number}")))
            .await;
        assert_eq!(response.status, 401);
    }
    for status in [401, 401, 401, 429] {
        assert_eq!(with_header.send(request("nonsense")).await.status, status);
    }
}

#[tokio::test]
async fn addresses_beyond_the_maximum_share_one_budget() {
    let server = Server::with_limit(MemoryStore::new(), |limit| {
        burst_of_three(limit).with_max_clients(2)
    })
    .await;
    let address = |number: u32| format!("10.0.{}.{}", number / 250, number % 250);
    for number in 0..2 {
        assert_eq!(
            verify_from(&server, &address(number), UNKNOWN).await.status,
            401
        );
    }
    let mut rejected = 0;
    for number in 2..1000 {
        let response = verify_from(&server, &address(number), UNKNOWN).await;
        rejected += u32::from(response.status == 429);
    }
    assert_eq!(rejected, 998 - 3);
    // A client that has an entry keeps it and its budget.
    assert_eq!(verify_from(&server, &address(0), UNKNOWN).await.status, 401);
    // Entries are removed when their budgets are full again.
    server.clock.advance(SECOND * 5);
    for number in 2000..2002 {
        for status in [401, 401, 401, 429] {
            assert_eq!(
                verify_from(&server, &address(number), UNKNOWN).await.status,
                status
            );
        }
    }
}

#[tokio::test]
async fn failure_limit_can_be_disabled() {
    use tower_service_token::ServiceTokenLayer;
    use tower_service_token::api::forward_auth::ForwardAuth;

    let layer = ServiceTokenLayer::new(MemoryStore::new());
    let app = ForwardAuth::new(layer)
        .with_failure_limit(None)
        .into_router();
    let server = Server {
        app,
        ..Server::in_memory().await
    };
    for _ in 0..200 {
        assert_eq!(server.verify("", UNKNOWN).await.status, 401);
    }
}

#[tokio::test]
async fn service_budget_covers_a_thousand_unknown_tokens() {
    use tower_service_token::api::oauth::OAuthEndpoints;
    use tower_service_token::{ServiceTokenLayer, ServiceTokens};

    let store = MemoryStore::new();
    let tokens = ServiceTokens::new(store.clone());
    let new = NewToken::new("shop").with_scopes(["introspect"]);
    let caller = tokens.create(new).await.expect("a token").into();
    let app = OAuthEndpoints::new(tokens, ServiceTokenLayer::new(store)).into_router();
    let server = Server {
        caller,
        app,
        ..Server::in_memory().await
    };
    for _ in 0..1_000 {
        assert_eq!(server.introspect(UNKNOWN).await.body, INACTIVE);
    }
}

#[tokio::test]
async fn extreme_limits_neither_panic_nor_disable_the_limit() {
    for (burst, interval) in [
        (1, Duration::ZERO),
        (u32::MAX, Duration::MAX),
        (1, Duration::MAX),
    ] {
        let burst = NonZeroU32::new(burst).unwrap();
        let server = Server::with_limit(MemoryStore::new(), |limit| {
            limit.with_burst(burst).with_interval(interval)
        });
        let server = server.await;
        assert_eq!(server.verify("", UNKNOWN).await.status, 401);
        server.clock.advance(Duration::from_millis(1));
        let second = server.verify("", UNKNOWN).await.status;
        let limited = burst.get() == 1 && !interval.is_zero();
        assert_eq!(second == 429, limited, "{burst} {interval:?}");
    }
}
