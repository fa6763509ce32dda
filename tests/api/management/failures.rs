//! Every failure is logged as one event with its cause and its request ID.

use async_trait::async_trait;
use axum::body::Body;
use http::Request;
use serde_json::json;
use tests::events::{Events, assert_fields};
use tower::ServiceExt;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::reject::FailureLogged;
use tower_service_token::store::{Credential, StoreError, TokenRecord};
use tower_service_token::testing::{Fault, FaultyStore};
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens, TokenStore};

use crate::management::Server;

/// Each call that reads or changes the store, by its route below `/api/service-tokens`.
const CALLS: [(&str, &str, &str); 13] = [
    ("POST", "", r#"{"name":"x"}"#),
    ("GET", "", ""),
    ("GET", "/{id}", ""),
    ("PATCH", "/{id}", r#"{"name":"y"}"#),
    ("DELETE", "/{id}", ""),
    ("POST", "/{id}/rotate", ""),
    ("POST", "/{id}/disable", ""),
    ("POST", "/{id}/enable", ""),
    ("POST", "/revoke", r#"{"filter":{}}"#),
    ("POST", "/revoke", r#"{"filter":{},"dry_run":true}"#),
    ("GET", "/self", ""),
    ("POST", "/self/rotate", ""),
    ("DELETE", "/self", ""),
];

fn request(token: &str, method: &str, path: &str, body: &str) -> Request<Body> {
    let request = Request::builder()
        .method(method)
        .uri(format!("/api/service-tokens{path}"))
        .header("x-api-key", token)
        .header("x-request-id", "req-7");
    let request = if body.is_empty() {
        request
    } else {
        request.header("content-type", "application/json")
    };
    request.body(Body::from(body.to_owned())).unwrap()
}

async fn assert_each_failure_is_logged(server: &Server, id: &str, error: &str, status: u16) {
    let events = Events::default();
    let _guard = events.start();
    let admin = server.admin.record().id().to_string();
    for (method, route, body) in CALLS {
        let path = route.replace("{id}", id);
        let token = server.admin.expose_secret();
        let request = request(token, method, &path, body);
        let response = server.app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{method} {route}");
        let is_marked = response.extensions().get::<FailureLogged>().is_some();
        assert!(is_marked, "{method} {route}");
        let event = events.only();
        assert_fields(
            &event,
            &[
                ("level", "ERROR"),
                ("status", &status.to_string()),
                ("request_id", "req-7"),
                ("endpoint", &format!("{method} /api/service-tokens{route}")),
                ("token_id", &admin),
            ],
        );
        assert!(event["error"].contains(error), "{event:?}");
    }
}

#[tokio::test]
async fn logs_each_failure_once() {
    let store = FaultyStore::new(MemoryStore::new());
    let server = Server::with_stores(MemoryStore::new(), store.clone()).await;
    let (id, _) = server.create(json!({ "name": "ci" })).await;
    store.inject(Fault::Error);
    assert_each_failure_is_logged(&server, &id, "a fault was injected", 503).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn logs_each_sqlite_failure_once() {
    use sqlx::Connection;
    use tower_service_token::store::sql::SqliteStore;

    let folder = std::env::temp_dir().join(format!("failures-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("tokens.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let server = Server::with_stores(MemoryStore::new(), store).await;
    let (id, _) = server.create(json!({ "name": "ci" })).await;
    let mut connection = sqlx::SqliteConnection::connect(path.to_str().unwrap())
        .await
        .unwrap();
    sqlx::query("ALTER TABLE service_tokens RENAME TO gone")
        .execute(&mut connection)
        .await
        .unwrap();
    assert_each_failure_is_logged(&server, &id, "no such table", 503).await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[derive(Clone)]
struct Corrupt;

#[async_trait]
impl TokenStore for Corrupt {
    async fn find(&self, _: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        Err(StoreError::corrupt("a record has no digest"))
    }
}

#[tokio::test]
async fn logs_corrupt_records_once() {
    let callers = MemoryStore::new();
    let tokens = ServiceTokens::new(callers.clone());
    let new = NewToken::new("admin").with_scopes(["service-tokens:admin"]);
    let admin = tokens.create(new).await.unwrap();
    let managed = ServiceTokens::new(MemoryStore::new()).with_actor_store(Corrupt);
    let events = Events::default();
    let _guard = events.start();
    for layer in [
        ServiceTokenLayer::new(Corrupt),
        ServiceTokenLayer::new(callers),
    ] {
        let api = ManagementApi::new(managed.clone(), layer).into_router::<()>();
        let app = axum::Router::new().nest("/api", api);
        let request = request(admin.expose_secret(), "POST", "", r#"{"name":"x"}"#);
        let response = app.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 500);
        assert!(response.extensions().get::<FailureLogged>().is_some());
        let event = events.only();
        assert_fields(
            &event,
            &[
                ("level", "ERROR"),
                ("status", "500"),
                ("code", "internal"),
                ("request_id", "req-7"),
            ],
        );
        assert!(event["error"].contains("a record has no digest"));
    }
}

#[tokio::test]
async fn logs_denied_escalations_without_the_callers_text() {
    let server = Server::new().await;
    let holder = server.holder(&["service-tokens:write", "a:b"]).await;
    let token_id = holder.record().id().to_string();
    let events = Events::default();
    let _guard = events.start();
    let token = holder.expose_secret();
    let body = r#"{"name":"x","roles":["hunter2"],"scopes":["a:b","c:d"]}"#;
    for (path, body, reason) in [
        ("", body, "missing_roles_or_scopes"),
        (
            "/revoke",
            r#"{"filter":{},"expect":1}"#,
            "tokens_not_covered",
        ),
    ] {
        server.create(json!({ "name": "y", "roles": ["r"] })).await;
        events.take();
        let request = request(token, "POST", path, body);
        let response = server.app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 403);
        let event = events.only();
        assert_fields(
            &event,
            &[
                ("level", "INFO"),
                ("reason", reason),
                ("code", "escalation_denied"),
                ("status", "403"),
                ("request_id", "req-7"),
                ("token_id", &token_id),
            ],
        );
        assert!(!format!("{event:?}").contains("hunter2"));
        if path.is_empty() {
            assert_eq!(event["missing"], "2");
        }
    }
}
