//! A fixture for APIs that are called in process, on a manual clock.

use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{HeaderMap, Request, request};
use serde_json::Value;
use tower::ServiceExt;
use tower_service_token::clock::ManualClock;
use tower_service_token::lifecycle::{IssuedToken, NewToken};
use tower_service_token::registry::TokenRegistry;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

/// 2027-01-15T08:00:00Z
const START: Duration = Duration::from_secs(1_800_000_000);

/// The parts of an API, and an administrator that calls it.
pub struct ApiFixture {
    pub clock: ManualClock,
    pub tokens: ServiceTokens,
    pub layer: ServiceTokenLayer,
    /// The token of an administrator.
    pub admin: IssuedToken,
}

impl ApiFixture {
    /// Looks callers up in `callers` and manages the tokens in `store`.
    pub async fn new(callers: MemoryStore, store: impl TokenRegistry) -> Self {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + START);
        let tokens = ServiceTokens::new(store)
            .with_clock(clock.clone())
            .with_actor_store(callers.clone());
        let admin = ServiceTokens::new(callers.clone())
            .with_clock(clock.clone())
            .create(NewToken::new("admin").with_scopes(["service-tokens:admin"]))
            .await
            .unwrap();
        Self {
            layer: ServiceTokenLayer::new(callers).with_clock(clock.clone()),
            clock,
            tokens,
            admin,
        }
    }

    /// Creates a token with these scopes.
    pub async fn holder(&self, scopes: &[&str]) -> IssuedToken {
        let new = NewToken::new("holder").with_scopes(scopes.iter().copied());
        self.tokens.create(new).await.unwrap()
    }
}

/// The response to a call.
#[derive(Debug)]
pub struct ApiResponse {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl ApiResponse {
    /// Sends a call such as `GET /workspace`, to which `build` adds headers.
    pub async fn send(
        app: &Router,
        call: &str,
        build: impl FnOnce(request::Builder) -> request::Builder,
        body: &str,
    ) -> Self {
        let (method, target) = call.split_once(' ').unwrap();
        let request = build(Request::builder().method(method).uri(target));
        Self::send_request(app, request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub async fn send_request(app: &Router, request: Request<Body>) -> Self {
        let response = app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}
