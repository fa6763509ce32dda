//! The management API, call by call, as docs and contract have it.

mod access;
mod calls;
mod document;
mod fields;
mod idempotency;
mod lists;

use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{HeaderMap, Request};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::clock::ManualClock;
use tower_service_token::lifecycle::{IssuedToken, NewToken};
use tower_service_token::store::TokenRegistry;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// 2027-01-15T08:00:00Z
fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// An app with the API below `/api`, on a clock turned by hand.
struct Server {
    clock: ManualClock,
    tokens: ServiceTokens,
    /// The token of an administrator.
    admin: IssuedToken,
    app: Router,
}

/// What a call is answered with.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The answer is a refusal of this kind, in the one form all of them have.
    #[track_caller]
    fn assert_refused(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let problem = self.json();
        assert_eq!(
            (&problem["status"], &problem["code"]),
            (&json!(status), &json!(code))
        );
        problem
    }

    /// The places of the fields that break rules.
    #[track_caller]
    fn pointers(&self) -> Vec<String> {
        let problem = self.assert_refused(422, "invalid_fields");
        let errors = problem["errors"].as_array().unwrap().iter();
        let pointer = |error: &Value| error["pointer"].as_str().unwrap().to_owned();
        errors.map(pointer).collect()
    }
}

impl Server {
    async fn new() -> Self {
        let store = MemoryStore::new();
        Self::over(store.clone(), store).await
    }

    /// Callers are found in `callers`, tokens are managed in `store`.
    async fn over(callers: MemoryStore, store: impl TokenRegistry) -> Self {
        let clock = ManualClock::new(start());
        let tokens = ServiceTokens::new(store).with_clock(clock.clone());
        let admin = ServiceTokens::new(callers.clone()).with_clock(clock.clone());
        let admin = admin
            .create(NewToken::new("admin").with_scopes(["service-tokens:admin"]))
            .await
            .unwrap();
        let layer = ServiceTokenLayer::new(callers).with_clock(clock.clone());
        let api = ManagementApi::new(tokens.clone(), layer);
        Self {
            clock,
            tokens,
            admin,
            app: Router::new().nest("/api", api.into_router()),
        }
    }

    /// A token with these scopes.
    async fn holder(&self, scopes: &[&str]) -> IssuedToken {
        let new = NewToken::new("holder").with_scopes(scopes.iter().copied());
        self.tokens.create(new).await.unwrap()
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let call = (request.method().clone(), request.uri().path().to_owned());
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let answer = Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        };
        document::assert_told(&call, &answer);
        answer
    }

    async fn call_as(&self, token: Option<&str>, call: &str, body: Option<&Value>) -> Answer {
        let (method, path) = call.split_once(' ').unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/service-tokens{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("ApiKey {token}"));
        }
        let body = match body {
            None => Body::empty(),
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
        };
        self.send(request.body(body).unwrap()).await
    }

    /// A call by the administrator, such as `GET /self`.
    async fn call(&self, call: &str, body: impl Into<Option<Value>>) -> Answer {
        let body = body.into();
        let token = self.admin.expose_secret();
        self.call_as(Some(token), call, body.as_ref()).await
    }

    /// The id and the secret of a token created by the administrator.
    async fn create(&self, body: Value) -> (String, String) {
        let answer = self.call("POST ", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let body = answer.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&body["service_token"]["id"]), text(&body["token"]))
    }
}
