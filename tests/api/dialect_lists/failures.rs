//! Every failure of a dialect is logged as one event with the request ID.

use http_body_util::BodyExt;
use serde_json::Value;
use tests::events::{Events, assert_fields};
use tower::ServiceExt;
use tower_service_token::ServiceTokenLayer;
use tower_service_token::api::stackstate::StackStateApi;
use tower_service_token::reject::FailureLogged;
use tower_service_token::testing::Fault;

use crate::dialect_lists::Server;

const NEW_TOKEN: &str = r#"{"name":"x"}"#;

/// Each call that reads or changes the store: method, target, route, body.
const CALLS: [(&str, &str, &str, &str); 8] = [
    ("GET", "/api/security/tokens", "/api/security/tokens", ""),
    (
        "POST",
        "/api/security/tokens",
        "/api/security/tokens",
        NEW_TOKEN,
    ),
    (
        "DELETE",
        "/api/security/tokens/5",
        "/api/security/tokens/{id}",
        "",
    ),
    (
        "GET",
        "/api/v1/service-account-tokens",
        "/api/v1/service-account-tokens",
        "",
    ),
    (
        "POST",
        "/api/v1/service-account-tokens",
        "/api/v1/service-account-tokens",
        NEW_TOKEN,
    ),
    (
        "GET",
        "/api/v1/service-account-tokens/7Hq2mX9bTe",
        "/api/v1/service-account-tokens/{uuid}",
        "",
    ),
    (
        "PATCH",
        "/api/v1/service-account-tokens/7Hq2mX9bTe",
        "/api/v1/service-account-tokens/{uuid}",
        NEW_TOKEN,
    ),
    (
        "DELETE",
        "/api/v1/service-account-tokens/7Hq2mX9bTe",
        "/api/v1/service-account-tokens/{uuid}",
        "",
    ),
];

#[tokio::test]
async fn each_failed_request_is_logged_once_with_its_tracking_key() {
    let server = Server::with(0).await;
    server.store.inject(Fault::Error);
    let admin = server.managed.admin.record().id().to_string();
    let events = Events::default();
    let _guard = events.start();
    for (method, target, route, body) in CALLS {
        let request = server.request(method, target, body);
        let response = server.app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 503, "{method} {target}");
        assert!(response.extensions().get::<FailureLogged>().is_some());
        let event = events.only();
        let code = if method == "GET" {
            "auth_unavailable"
        } else {
            "change_failed"
        };
        assert_fields(
            &event,
            &[
                ("level", "ERROR"),
                ("status", "503"),
                ("code", code),
                ("request_id", "req-7"),
                ("endpoint", &format!("{method} {route}")),
                ("token_id", &admin),
            ],
        );
        assert!(event["error"].contains("a fault was injected"));
        if target.contains("security") {
            assert_eq!(tracking_key(response).await, "req-7");
        }
    }
}

async fn tracking_key(response: http::Response<axum::body::Body>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let error: Value = serde_json::from_slice(&body).unwrap();
    error["trackingKey"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn requests_without_a_valid_id_get_a_random_logged_tracking_key() {
    let server = Server::with(0).await;
    server.store.inject(Fault::Error);
    let events = Events::default();
    let _guard = events.start();
    let token = server.managed.admin.expose_secret();
    let long = "x".repeat(129);
    let mut keys = Vec::new();
    for id in [None, Some(""), Some("a b"), Some(&*long), Some(token)] {
        let mut request = server.request("POST", "/api/security/tokens", NEW_TOKEN);
        request.headers_mut().remove("x-request-id");
        if let Some(id) = id {
            let id = id.parse().unwrap();
            request.headers_mut().insert("x-request-id", id);
        }
        let response = server.app.clone().oneshot(request).await.unwrap();
        let key = tracking_key(response).await;
        assert_eq!(key.len(), 16, "{key}");
        assert_fields(&events.only(), &[("level", "ERROR"), ("request_id", &key)]);
        keys.push(key);
    }
    keys.dedup();
    assert_eq!(keys.len(), 5);
}

#[tokio::test]
async fn layer_and_router_rejections_have_the_tracking_key() {
    let server = Server::with(0).await;
    // The layer looks callers up in the failing store, so the layer itself rejects the request.
    let layer = ServiceTokenLayer::new(server.store.clone());
    let api = StackStateApi::new(server.managed.tokens.clone(), layer).into_router::<()>();
    let failing = axum::Router::new().nest("/api", api);
    server.store.inject(Fault::Error);
    let events = Events::default();
    let _guard = events.start();
    let request = server.request("GET", "/api/server/info", "");
    let response = failing.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.extensions().get::<FailureLogged>().is_some());
    assert_eq!(tracking_key(response).await, "req-7");
    let event = events.only();
    assert_fields(&event, &[("level", "ERROR"), ("request_id", "req-7")]);

    for (method, status) in [("GET", 401), ("PUT", 405)] {
        let mut request = server.request(method, "/api/security/tokens", "");
        request.headers_mut().remove("x-api-key");
        let response = server.app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(tracking_key(response).await, "req-7");
    }
}
