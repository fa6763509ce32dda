//! The effect and the response of each call.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use tests::api_fixture::ApiResponse;
use tower_service_token::MemoryStore;
use tower_service_token::testing::{Fault, FaultyStore};

use crate::management::{DAY, ManagementResponse, SECOND, Server};

#[tokio::test]
async fn creation_returns_a_working_secret_once() {
    let server = Server::new().await;
    let body = json!({
        "name": "ci", "description": "nightly", "subject": "alice", "roles": ["deployer"],
        "scopes": ["a:b"], "labels": { "team": "x" }, "expires_at": "2027-01-31",
        "not_before": "2027-01-15T00:00:00Z",
    });
    let response = server.call("POST ", body).await;
    assert_eq!(response.status, 201, "{response:?}");
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.header("service-token-effective-within"), Some("0"));
    let created = response.json();
    let (secret, shown) = (
        created["token"].as_str().unwrap(),
        &created["service_token"],
    );
    let id = shown["id"].as_str().unwrap();
    assert_eq!(
        response.header("location"),
        Some(&*format!("/api/service-tokens/{id}"))
    );
    let expected = json!({
        "id": id, "name": "ci", "description": "nightly", "subject": "alice",
        "owner": null, "roles": ["deployer"], "scopes": ["a:b"], "labels": { "team": "x" }, "state": "active",
        "created_at": "2027-01-15T08:00:00Z",
        "created_by": format!("token:{}", server.admin.record().id()),
        "updated_at": shown["updated_at"], "expires_at": "2027-02-01T00:00:00Z",
        "not_before": "2027-01-15T00:00:00Z", "last_used_at": null, "rotated_at": null,
        "grace_ends_at": null, "hint": format!("svctok-{id}_***"),
    });
    assert_eq!(shown, &expected);
    assert_eq!(
        server.call_as(Some(secret), "GET /self", None).await.json(),
        expected
    );
    for call in [format!("GET /{id}"), "GET ".to_owned()] {
        let response = server.call(&call, None).await;
        assert_eq!(response.status, 200);
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert!(!response.body.contains(secret) && !response.body.contains("\"token\""));
    }
}

#[tokio::test]
async fn merge_patches_change_only_named_members() {
    let server = Server::new().await;
    let body = json!({
        "name": "ci", "description": "d", "subject": "s", "roles": ["r"], "scopes": ["a"],
        "labels": { "team": "x", "env": "dev" }, "expires_in": "30d",
        "not_before": "2027-01-15T00:00:00Z",
    });
    let (id, _) = server.create(body).await;
    let call = format!("PATCH /{id}");
    let before = server.call(&format!("GET /{id}"), None).await.json();
    let mut expected = before.clone();
    for (patch, changed) in [
        (json!({}), json!({})),
        (json!({ "name": "cd" }), json!({ "name": "cd" })),
        (
            json!({ "description": null }),
            json!({ "description": null }),
        ),
        (json!({ "subject": null }), json!({ "subject": null })),
        (
            json!({ "roles": null, "scopes": ["b"] }),
            json!({ "roles": [], "scopes": ["b"] }),
        ),
        (
            json!({ "labels": { "team": "y", "env": null, "new": "z" } }),
            json!({ "labels": { "team": "y", "new": "z" } }),
        ),
        (json!({ "labels": null }), json!({ "labels": {} })),
        (json!({ "not_before": null }), json!({ "not_before": null })),
        (
            json!({ "expires_in": "PT1H" }),
            json!({ "expires_at": "2027-01-15T09:00:00Z" }),
        ),
        (
            json!({ "expires_at": null, "expires_in": null }),
            json!({ "expires_at": null }),
        ),
        (
            json!({ "expires_in": "PT2H" }),
            json!({ "expires_at": "2027-01-15T10:00:00Z" }),
        ),
        (json!({ "expires_at": null }), json!({ "expires_at": null })),
    ] {
        let response = server.call(&call, patch.clone()).await;
        assert_eq!(response.status, 200, "{patch}: {response:?}");
        let shown = response.json();
        expected["updated_at"] = shown["updated_at"].clone();
        let changed = changed.as_object().unwrap().clone();
        expected.as_object_mut().unwrap().extend(changed);
        assert_eq!(shown, expected, "{patch}");
    }
}

#[tokio::test]
async fn if_match_protects_changes() {
    let server = Server::new().await;
    let (id, _) = server.create(json!({ "name": "ci" })).await;
    let tag = async || {
        let response = server.call(&format!("GET /{id}"), None).await;
        response.header("etag").unwrap().to_owned()
    };
    let patch = async |if_match: &str| {
        let request = Request::patch(format!("/api/service-tokens/{id}"))
            .header("x-api-key", server.admin.expose_secret())
            .header("content-type", "application/merge-patch+json")
            .header("if-match", if_match)
            .body(Body::from(r#"{"description":"d"}"#))
            .unwrap();
        server.send(request).await
    };
    let first = tag().await;
    let changed = patch(&first).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let second = tag().await;
    assert_ne!(first, second);
    assert_eq!(changed.header("etag"), Some(&*second));
    for stale in [&*first, "\"x\"", &*format!("W/{second}"), "\"\"", "\"1,2\""] {
        patch(stale).await.assert_error(412, "precondition_failed");
    }
    for garbage in ["x", "", second.trim_matches('"')] {
        patch(garbage).await.assert_error(400, "invalid_request");
    }
    assert_eq!(patch(&format!("\"x\", {second}")).await.status, 200);
    assert_eq!(patch("*").await.status, 200);
}

#[tokio::test]
async fn rotation_keeps_the_old_secret_for_the_grace_period() {
    let server = Server::new().await;
    let (id, first) = server.create(json!({ "name": "ci" })).await;
    let works =
        async |secret: &str| server.call_as(Some(secret), "GET /self", None).await.status == 200;
    let response = server
        .call(&format!("POST /{id}/rotate"), json!({ "grace": "1d" }))
        .await;
    assert_eq!(response.status, 200, "{response:?}");
    let rotated = response.json();
    assert_eq!(rotated["grace_ends_at"], "2027-01-16T08:00:00Z");
    assert_eq!(
        rotated["service_token"]["grace_ends_at"],
        rotated["grace_ends_at"]
    );
    let second = rotated["token"].as_str().unwrap();
    assert!(works(&first).await && works(second).await);
    server.clock.advance(DAY);
    assert!(!works(&first).await && works(second).await);
    let third = server
        .call(&format!("POST /{id}/rotate"), None)
        .await
        .json();
    assert!(!works(second).await && works(third["token"].as_str().unwrap()).await);
}

#[tokio::test]
async fn disables_enables_and_revokes_tokens() {
    let server = Server::new().await;
    let (id, secret) = server.create(json!({ "name": "ci" })).await;
    let status = async || {
        server
            .call_as(Some(&secret), "GET /self", None)
            .await
            .status
    };
    for (call, state, works) in [
        ("disable", "disabled", 401),
        ("disable", "disabled", 401),
        ("enable", "active", 200),
    ] {
        let response = server.call(&format!("POST /{id}/{call}"), None).await;
        assert_eq!(response.json()["state"], state);
        assert_eq!(response.header("service-token-effective-within"), Some("0"));
        assert_eq!(status().await, works);
    }
    for _ in 0..2 {
        let response = server.call(&format!("DELETE /{id}"), None).await;
        assert_eq!((response.status, &*response.body), (204, ""));
        assert_eq!(response.header("service-token-effective-within"), Some("0"));
    }
    assert_eq!(status().await, 401);
    for call in ["enable", "disable", "rotate"] {
        let response = server.call(&format!("POST /{id}/{call}"), None).await;
        response.assert_error(409, "token_revoked");
    }
    let patched = server
        .call(&format!("PATCH /{id}"), json!({ "name": "x" }))
        .await;
    patched.assert_error(409, "token_revoked");
}

#[tokio::test]
async fn rejects_rotation_of_expired_tokens() {
    let server = Server::new().await;
    let (id, _) = server
        .create(json!({ "name": "ci", "expires_in": "1s" }))
        .await;
    server.clock.advance(SECOND);
    let response = server.call(&format!("POST /{id}/rotate"), None).await;
    response.assert_error(409, "token_expired");
    assert_eq!(
        server.call(&format!("GET /{id}"), None).await.json()["state"],
        "expired"
    );
}

#[tokio::test]
async fn unknown_ids_are_not_found() {
    let server = Server::new().await;
    for id in ["0000000000", "short", "7Hq2mX9bT%C3%A9", "..", "selfie"] {
        for (call, body) in [
            (format!("GET /{id}"), None),
            (format!("PATCH /{id}"), Some(json!({ "name": "x" }))),
            (format!("POST /{id}/rotate"), None),
            (format!("POST /{id}/disable"), None),
            (format!("DELETE /{id}"), None),
        ] {
            server
                .call(&call, body)
                .await
                .assert_error(404, "not_found");
        }
    }
}

#[tokio::test]
async fn method_not_allowed_errors_are_problem_json() {
    let server = Server::new().await;
    for (method, path) in [
        ("PUT", "service-tokens"),
        ("PUT", "service-tokens/self"),
        ("GET", "service-tokens/7Hq2mX9bTe/rotate"),
        ("POST", "openapi.json"),
    ] {
        let request = Request::builder().method(method);
        let request = request.uri(format!("/api/{path}")).body(Body::empty());
        let response = ApiResponse::send_request(&server.app, request.unwrap()).await;
        response.assert_error(405, "method_not_allowed");
        assert!(response.header("allow").is_some(), "{method} {path}");
    }
}

#[tokio::test]
async fn store_failures_are_503() {
    let store = FaultyStore::new(MemoryStore::new());
    let server = Server::with_stores(MemoryStore::new(), store.clone()).await;
    let (id, _) = server.create(json!({ "name": "ci" })).await;
    store.inject(Fault::Error);
    for (call, body) in [
        ("GET ".to_owned(), None),
        (format!("GET /{id}"), None),
        ("POST ".to_owned(), Some(json!({ "name": "x" }))),
        (format!("PATCH /{id}"), Some(json!({ "name": "x" }))),
        (format!("POST /{id}/rotate"), None),
        (format!("DELETE /{id}"), None),
        (
            "POST /revoke".to_owned(),
            Some(json!({ "filter": { "name": "x" } })),
        ),
    ] {
        let response = server.call(&call, body).await;
        let code = if call.starts_with("GET") {
            "auth_unavailable"
        } else {
            "change_failed"
        };
        let problem: Value = response.assert_error(503, code);
        assert!(response.header("retry-after").is_some(), "{problem}");
    }
}
