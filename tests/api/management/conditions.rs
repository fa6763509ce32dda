//! `If-Match` on every change.

use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::management::{ApiResponse, ManagementResponse, Server};

/// Changes, with their status if the condition holds.
const CHANGES: [(&str, &str, u16); 5] = [
    ("PATCH", "", 200),
    ("POST", "/disable", 200),
    ("POST", "/enable", 200),
    ("POST", "/rotate", 200),
    ("DELETE", "", 204),
];

async fn change(
    server: &Server,
    caller: &str,
    (method, path): (&str, &str),
    if_match: &str,
) -> ApiResponse {
    let request = Request::builder()
        .method(method)
        .uri(format!("/api/service-tokens{path}"))
        .header("x-api-key", caller)
        .header("content-type", "application/json")
        .header("if-match", if_match);
    let body = if method == "PATCH" {
        json!({ "description": if_match }).to_string()
    } else {
        String::new()
    };
    let request = if body.is_empty() {
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts.headers.remove("content-type");
        Request::from_parts(parts, Body::empty())
    } else {
        request.body(Body::from(body)).unwrap()
    };
    server.send(request).await
}

#[tokio::test]
async fn if_match_protects_every_change() {
    for (method, path, status) in CHANGES {
        let server = Server::new().await;
        let admin = server.admin.expose_secret();
        let (id, _) = server.create(json!({ "name": "ci" })).await;
        let call = (method, &*format!("/{id}{path}"));
        let shown = async || server.call(&format!("GET /{id}"), None).await;
        let before = shown().await;
        for stale in [
            "\"2\"",
            "\"0\"",
            "\"x\"",
            "\"\"",
            "W/\"1\"",
            "\"1,2\"",
            // Numbers that equal the revision, but not the entity tag.
            "\"+1\"",
            "\"01\"",
            "\"1.0\"",
            "\"18446744073709551617\"",
            "\"2\", \"3\"",
        ] {
            let response = change(&server, admin, call, stale).await;
            response.assert_error(412, "precondition_failed");
        }
        for malformed in ["", "1", "\"1", "\"1\" \"2\""] {
            let response = change(&server, admin, call, malformed).await;
            response.assert_error(400, "invalid_request");
        }
        assert_eq!(shown().await.json(), before.json(), "{method} {path}");
        let response = change(&server, admin, call, "\"x\", \"1\"").await;
        assert_eq!(response.status, status, "{method} {path}: {response:?}");
    }
}

#[tokio::test]
async fn if_match_protects_changes_of_the_own_token() {
    for (call, status) in [(("POST", "/self/rotate"), 200), (("DELETE", "/self"), 204)] {
        let server = Server::new().await;
        let (_, secret) = server.create(json!({ "name": "ci" })).await;
        for stale in ["\"2\"", "\"+1\"", "\"01\"", "W/\"1\""] {
            let response = change(&server, &secret, call, stale).await;
            response.assert_error(412, "precondition_failed");
        }
        let response = change(&server, &secret, call, "\"1\"").await;
        assert_eq!(response.status, status, "{call:?}: {response:?}");
    }
}

/// The list of tokens has no entity tag, so no condition on it can hold.
#[tokio::test]
async fn if_match_never_matches_the_list() {
    let server = Server::new().await;
    let (id, _) = server.create(json!({ "name": "ci" })).await;
    for (path, body) in [
        ("", json!({ "name": "cd" })),
        ("/revoke", json!({ "filter": { "name": "ci" } })),
    ] {
        for (if_match, status) in [("\"1\"", 412), ("W/\"1\"", 412), ("x", 400)] {
            let request = Request::post(format!("/api/service-tokens{path}"))
                .header("x-api-key", server.admin.expose_secret())
                .header("content-type", "application/json")
                .header("if-match", if_match)
                .body(Body::from(body.to_string()))
                .unwrap();
            let response = server.send(request).await;
            assert_eq!(response.status, status, "{path}: {response:?}");
        }
    }
    let shown = server.call(&format!("GET /{id}"), None).await.json();
    assert_eq!(shown["state"], "active");
    let list = server.call("GET ?name=cd", None).await.json();
    assert_eq!(list["service_tokens"], json!([]));
}
