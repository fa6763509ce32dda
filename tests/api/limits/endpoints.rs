//! The failure limit applies to every endpoint.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Request;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower::ServiceExt;
use tower_service_token::api::forward_auth::ForwardAuth;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::api::oauth::OAuthEndpoints;
use tower_service_token::api::pipeops::PipeOpsApi;
use tower_service_token::api::stackstate::StackStateApi;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::testing::FaultyStore;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

use crate::limits::{DAMAGED, SECOND, limit, slow_limit, unknown};

/// Endpoints with their status for an unknown token.
const CALLS: [(&str, &str, u16); 9] = [
    ("GET", "/service-tokens", 401),
    ("GET", "/service-tokens/self", 401),
    ("POST", "/service-tokens/revoke", 401),
    ("GET", "/api/security/tokens", 401),
    ("GET", "/api/v1/service-account-tokens", 401),
    ("GET", "/workspace", 401),
    ("POST", "/introspect", 401),
    ("POST", "/revoke", 200),
    ("GET", "/verify", 401),
];

/// Returns the status for a damaged token. `/revoke` alone distinguishes it from an unknown one.
fn status_for_damaged(path: &str, status_for_unknown: u16) -> u16 {
    if path == "/revoke" {
        400
    } else {
        status_for_unknown
    }
}

struct App {
    tokens: ServiceTokens,
    store: FaultyStore<MemoryStore>,
    router: Router,
}

impl App {
    fn new(layer: impl FnOnce(ServiceTokenLayer) -> ServiceTokenLayer) -> Self {
        let memory = MemoryStore::new();
        let store = FaultyStore::new(memory.clone());
        let layer = layer(ServiceTokenLayer::new(store.clone()));
        let tokens = ServiceTokens::new(memory);
        let pipeops = PipeOpsApi::new(tokens.clone(), layer.clone());
        let stackstate = StackStateApi::new(tokens.clone(), layer.clone());
        let router = Router::new()
            .merge(ManagementApi::new(tokens.clone(), layer.clone()).into_router())
            .merge(OAuthEndpoints::new(tokens.clone(), layer.clone()).into_router())
            .merge(ForwardAuth::new(layer).into_router())
            .nest("/api", stackstate.into_router())
            .merge(pipeops.into_router());
        Self {
            tokens,
            store,
            router,
        }
    }

    /// Sends a token: in the form to `/revoke`, in the header to other endpoints.
    fn call(&self, method: &str, path: &str, token: &str) -> BoxFuture<'static, Response> {
        let revoked = if path == "/revoke" { token } else { "" };
        self.send(method, path, token, &format!("token={revoked}"))
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        token: &str,
        form: &str,
    ) -> BoxFuture<'static, Response> {
        let peer: IpAddr = [192, 0, 2, 1].into();
        let mut request = Request::builder().method(method).uri(path);
        if path != "/revoke" {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let mut request = request.body(Body::from(form.to_owned())).unwrap();
        let peer = ConnectInfo(SocketAddr::new(peer, 4000));
        request.extensions_mut().insert(peer);
        let response = self.router.clone().oneshot(request);
        async { response.await.unwrap_or_else(|never| match never {}) }.boxed()
    }
}

fn assert_limited(response: &Response, call: &str) {
    assert_eq!(response.status(), 429, "{call}");
    assert_eq!(response.headers()["retry-after"], "1", "{call}");
    assert!(
        response.headers().get("www-authenticate").is_none(),
        "{call}"
    );
}

#[tokio::test(start_paused = true)]
async fn endpoints_share_the_budget_of_their_layer() {
    for (method, path, status) in CALLS {
        let status = status_for_damaged(path, status);
        let burst = NonZeroU32::new(2).unwrap();
        let limit = limit().with_burst(burst).with_interval(SECOND);
        let app = App::new(|layer| layer.accept_bearer().with_failure_limit(limit));
        for _ in 0..2 {
            assert_eq!(
                app.call(method, path, DAMAGED).await.status(),
                status,
                "{path}"
            );
        }
        for (method, path, _) in CALLS {
            assert_limited(&app.call(method, path, DAMAGED).await, path);
        }
        assert_eq!(app.store.calls(), 0);
    }
}

#[tokio::test]
async fn endpoints_have_a_failure_budget_by_default() {
    for (method, path, status) in CALLS {
        let status = status_for_damaged(path, status);
        let app = App::new(ServiceTokenLayer::accept_bearer);
        let mut first = None;
        for number in 0..2_000 {
            let response = app.call(method, path, DAMAGED).await;
            if response.status() == 429 {
                first = Some(number);
                break;
            }
            assert_eq!(response.status(), status, "{path}");
        }
        // The budget refills over time, so more than 100 requests may fail in a slow loop.
        assert!(first.is_some_and(|first| first >= 100), "{path}: {first:?}");
        let none = App::new(|layer| layer.accept_bearer().with_failure_limit(None));
        for _ in 0..200 {
            let response = none.call(method, path, DAMAGED).await;
            assert_eq!(response.status(), status, "{path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn lookups_of_every_endpoint_are_queued() {
    for (method, path, status) in CALLS {
        let app = App::new(|layer| layer.accept_bearer().with_failure_limit(slow_limit()));
        let started = Instant::now();
        let mut calls = JoinSet::new();
        for _ in 0..3 {
            calls.spawn(app.call(method, path, &unknown()));
        }
        let mut statuses = Vec::new();
        while let Some(response) = calls.join_next().await {
            statuses.push((
                response.unwrap().status().as_u16(),
                started.elapsed().as_secs(),
            ));
        }
        // The third lookup times out after 2 s, or is admitted at that moment.
        assert_eq!(statuses[..2], [(status, 0), (status, 1)], "{path}");
        assert!([429, status].contains(&statuses[2].0), "{path}");
        assert!(app.store.calls() <= 3, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_tokens_of_one_service_do_not_limit_others() {
    let app = App::new(|layer| layer.accept_bearer().with_failure_limit(limit()));
    let mut services = Vec::new();
    for name in ["attacked", "other"] {
        let new = NewToken::new(name).with_scopes(["introspect"]);
        let service = app.tokens.create(new).await.unwrap();
        services.push(service.expose_secret().to_owned());
    }
    let introspect = |service: &str, token: &str| {
        app.send("POST", "/introspect", service, &format!("token={token}"))
    };
    for service in &services {
        assert_eq!(introspect(service, &unknown()).await.status(), 200);
    }
    let mut unknown_tokens = JoinSet::new();
    for _ in 0..1_000 {
        for _ in 0..20 {
            unknown_tokens.spawn(introspect(&services[0], &unknown()));
        }
        let good = app.tokens.create(NewToken::new("user")).await.unwrap();
        let started = Instant::now();
        let response = introspect(&services[1], good.expose_secret()).await;
        assert_eq!(response.status(), 200);
        let body = axum::body::to_bytes(response.into_body(), 4096)
            .await
            .unwrap();
        assert!(body.starts_with(br#"{"active":true"#));
        let waited = started.elapsed();
        assert!(waited <= Duration::from_millis(5), "{waited:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let responses = unknown_tokens.join_all().await;
    assert!(responses.iter().any(|response| response.status() == 429));
}
