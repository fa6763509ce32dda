//! The management API, call by call.

mod access;
mod actors;
mod conditions;
mod costs;
mod cross_site;
mod document;
#[cfg(feature = "tracing")]
mod failures;
mod fields;
mod idempotency;
mod lists;
mod merged_document;
mod operations;
mod own_handlers;
mod rotations;
mod texts;

use std::ops::Deref;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use tests::api_fixture::{ApiFixture, ApiResponse};
use tower_service_token::MemoryStore;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::registry::TokenRegistry;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// An app with the API below `/api`.
struct Server {
    managed: ApiFixture,
    app: Router,
}

trait ManagementResponse {
    fn header(&self, name: &str) -> Option<&str>;

    /// Asserts that the response is an error with this status and code.
    #[track_caller]
    fn assert_error(&self, status: u16, code: &str) -> Value;

    /// Returns the JSON pointers to the invalid fields.
    #[track_caller]
    fn pointers(&self) -> Vec<String>;
}

impl ManagementResponse for ApiResponse {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    fn assert_error(&self, status: u16, code: &str) -> Value {
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

    #[track_caller]
    fn pointers(&self) -> Vec<String> {
        let problem = self.assert_error(422, "invalid_fields");
        let errors = problem["errors"].as_array().unwrap().iter();
        let pointer = |error: &Value| error["pointer"].as_str().unwrap().to_owned();
        errors.map(pointer).collect()
    }
}

impl Server {
    async fn new() -> Self {
        let store = MemoryStore::new();
        Self::with_stores(store.clone(), store).await
    }

    /// Looks callers up in `callers` and manages the tokens in `store`.
    async fn with_stores(callers: MemoryStore, store: impl TokenRegistry) -> Self {
        let managed = ApiFixture::new(callers, store).await;
        let api = ManagementApi::new(managed.tokens.clone(), managed.layer.clone());
        Self {
            managed,
            app: Router::new().nest("/api", api.into_router()),
        }
    }

    async fn send(&self, request: Request<Body>) -> ApiResponse {
        let call = (request.method().clone(), request.uri().path().to_owned());
        let response = ApiResponse::send_request(&self.app, request).await;
        document::assert_documented(&call, &response);
        response
    }

    /// Sends a call with a JSON body, if the body is not empty.
    async fn call_text(&self, token: Option<&str>, call: &str, body: &str) -> ApiResponse {
        let (method, path) = call.split_once(' ').unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/service-tokens{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("ApiKey {token}"));
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap())
            .await
    }

    async fn call_as(&self, token: Option<&str>, call: &str, body: Option<&Value>) -> ApiResponse {
        let body = body.map(Value::to_string).unwrap_or_default();
        self.call_text(token, call, &body).await
    }

    /// Sends a call such as `GET /self` as the administrator.
    async fn call(&self, call: &str, body: impl Into<Option<Value>>) -> ApiResponse {
        let body = body.into();
        let token = self.admin.expose_secret();
        self.call_as(Some(token), call, body.as_ref()).await
    }

    /// Creates a token as the administrator. Returns its ID and its secret.
    async fn create(&self, body: Value) -> (String, String) {
        let response = self.call("POST ", body).await;
        assert_eq!(response.status, 201, "{response:?}");
        let body = response.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&body["service_token"]["id"]), text(&body["token"]))
    }
}

impl Deref for Server {
    type Target = ApiFixture;

    fn deref(&self) -> &ApiFixture {
        &self.managed
    }
}
