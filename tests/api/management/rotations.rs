//! Repeated rotations with an `Idempotency-Key`.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use tower_service_token::MemoryStore;

use crate::management::{ApiResponse, DAY, ManagementResponse, Server};

const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

/// Rotates the token at a path such as `/self`, with these headers.
async fn rotate(
    server: &Server,
    caller: &str,
    path: &str,
    headers: &[(&str, &str)],
    grace: &str,
) -> ApiResponse {
    let mut request = Request::post(format!("/api/service-tokens{path}/rotate"))
        .header("x-api-key", caller)
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = json!({ "grace": grace }).to_string();
    server.send(request.body(Body::from(body)).unwrap()).await
}

async fn rotate_by_admin(server: &Server, id: &str, key: &str, grace: &str) -> ApiResponse {
    let headers = [("idempotency-key", key)];
    let admin = server.admin.expose_secret();
    rotate(server, admin, &format!("/{id}"), &headers, grace).await
}

async fn works(server: &Server, secret: &str) -> bool {
    server.call_as(Some(secret), "GET /self", None).await.status == 200
}

fn secret(response: &ApiResponse) -> String {
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("idempotency-replayed"), None);
    response.json()["token"].as_str().unwrap().to_owned()
}

/// Asserts that the response repeats an earlier rotation: it has the record as `GET` shows it, and
/// no secret.
async fn assert_replayed(server: &Server, id: &str, response: &ApiResponse) {
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("idempotency-replayed"), Some("true"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let shown = server.call(&format!("GET /{id}"), None).await;
    assert_eq!(response.header("etag"), shown.header("etag"));
    let expected = json!({ "token": null, "service_token": shown.json() });
    assert_eq!(response.json(), expected);
}

#[tokio::test]
async fn repeated_rotations_keep_the_first_secret() {
    for grace in ["PT0S", "1d"] {
        let server = Server::new().await;
        let (id, old) = server.create(json!({ "name": "ci" })).await;
        let new = secret(&rotate_by_admin(&server, &id, KEY, grace).await);
        for key in [KEY, &format!("\"{KEY}\"")] {
            server.clock.advance(crate::management::SECOND);
            let repeated = rotate_by_admin(&server, &id, key, grace).await;
            assert_replayed(&server, &id, &repeated).await;
        }
        assert!(works(&server, &new).await);
        assert_eq!(works(&server, &old).await, grace == "1d");
        let found = server.call(&format!("GET /{id}"), None).await;
        assert_eq!(found.header("etag"), Some("\"2\""));

        let next = secret(&rotate_by_admin(&server, &id, "another", grace).await);
        assert!(works(&server, &next).await);
    }
}

#[tokio::test]
async fn rotations_without_a_key_always_create_a_secret() {
    let server = Server::new().await;
    let (id, _) = server.create(json!({ "name": "ci" })).await;
    let first = secret(&rotate_by_admin(&server, &id, KEY, "PT0S").await);
    let rotated = server.call(&format!("POST /{id}/rotate"), None).await;
    let second = secret(&rotated);
    assert!(!works(&server, &first).await && works(&server, &second).await);
    // Only the last rotation is remembered.
    let third = secret(&rotate_by_admin(&server, &id, KEY, "PT0S").await);
    assert!(!works(&server, &second).await && works(&server, &third).await);
}

#[tokio::test]
async fn later_changes_keep_the_rotation_key() {
    let server = Server::new().await;
    let (id, _) = server.create(json!({ "name": "ci" })).await;
    let new = secret(&rotate_by_admin(&server, &id, KEY, "PT0S").await);
    let patch = json!({ "description": "changed", "roles": ["r"] });
    let changed = server.call(&format!("PATCH /{id}"), patch).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let repeated = rotate_by_admin(&server, &id, KEY, "PT0S").await;
    assert_replayed(&server, &id, &repeated).await;
    assert!(works(&server, &new).await);
}

#[tokio::test]
async fn reused_and_malformed_keys_rotate_nothing() {
    let server = Server::new().await;
    let (id, _) = server.create(json!({ "name": "ci" })).await;
    let new = secret(&rotate_by_admin(&server, &id, KEY, "1d").await);
    let other = rotate_by_admin(&server, &id, KEY, "PT0S").await;
    other.assert_error(422, "idempotency_key_reused");
    // The same grace period in another notation.
    let repeated = rotate_by_admin(&server, &id, KEY, "24h").await;
    assert_replayed(&server, &id, &repeated).await;
    let long = "a".repeat(256);
    for bad in ["", "a b", "\"a", "\"\"", &*long] {
        let rejected = rotate_by_admin(&server, &id, bad, "1d").await;
        rejected.assert_error(400, "invalid_request");
    }
    let admin = server.admin.expose_secret();
    let twice = [("idempotency-key", KEY), ("idempotency-key", KEY)];
    let rejected = rotate(&server, admin, &format!("/{id}"), &twice, "1d").await;
    rejected.assert_error(400, "invalid_request");
    assert!(works(&server, &new).await);
}

#[tokio::test]
async fn keys_of_other_callers_and_tokens_are_independent() {
    let server = Server::new().await;
    let (id, _) = server.create(json!({ "name": "ci" })).await;
    let (other, _) = server.create(json!({ "name": "cd" })).await;
    let first = secret(&rotate_by_admin(&server, &id, KEY, "PT0S").await);
    let _ = secret(&rotate_by_admin(&server, &other, KEY, "PT0S").await);
    assert!(works(&server, &first).await);
    let writer = server.holder(&["service-tokens:write"]).await;
    let headers = [("idempotency-key", KEY)];
    let path = format!("/{id}");
    let of_writer = rotate(&server, writer.expose_secret(), &path, &headers, "PT0S").await;
    let of_writer = secret(&of_writer);
    assert!(!works(&server, &first).await && works(&server, &of_writer).await);
    // A caller that may not rotate the token gets no information about it.
    let reader = server.holder(&["service-tokens:read"]).await;
    let rejected = rotate(&server, reader.expose_secret(), &path, &headers, "PT0S").await;
    rejected.assert_error(403, "insufficient_scope");
}

#[tokio::test]
async fn repeated_rotation_ignores_a_stale_revision() {
    let server = Server::new().await;
    let (id, _) = server.create(json!({ "name": "ci" })).await;
    let admin = server.admin.expose_secret();
    let path = format!("/{id}");
    for if_match in ["\"1\"", "\"1\", \"7\""] {
        let key = format!("{KEY}{}", if_match.len());
        let tag = server.call(&format!("GET {path}"), None).await;
        let current = tag.header("etag").unwrap().to_owned();
        let if_match = if_match.replace("\"1\"", &current);
        let headers = [("idempotency-key", &*key), ("if-match", &*if_match)];
        let new = secret(&rotate(&server, admin, &path, &headers, "1d").await);
        let repeated = rotate(&server, admin, &path, &headers, "1d").await;
        assert_replayed(&server, &id, &repeated).await;
        let stale = [("idempotency-key", "another"), ("if-match", &*if_match)];
        let rejected = rotate(&server, admin, &path, &stale, "1d").await;
        rejected.assert_error(412, "precondition_failed");
        assert!(works(&server, &new).await);
    }
}

/// A holder whose response was lost still has the previous secret.
#[tokio::test]
async fn holders_recover_from_a_lost_rotation_of_their_own() {
    let server = Server::new().await;
    let (id, old) = server.create(json!({ "name": "ci" })).await;
    let headers = [("idempotency-key", KEY)];
    let lost = secret(&rotate(&server, &old, "/self", &headers, "1d").await);
    let repeated = rotate(&server, &old, "/self", &headers, "1d").await;
    assert_replayed(&server, &id, &repeated).await;
    let etag = repeated.header("etag").unwrap();
    let headers = [("idempotency-key", "another"), ("if-match", etag)];
    let new = secret(&rotate(&server, &old, "/self", &headers, "1d").await);
    assert!(works(&server, &old).await && works(&server, &new).await);
    assert!(!works(&server, &lost).await);
    server.clock.advance(DAY);
    assert!(!works(&server, &old).await && works(&server, &new).await);
}

#[tokio::test]
async fn concurrent_rotations_with_one_key_create_one_secret() {
    let store = MemoryStore::new();
    let one = Server::with_stores(store.clone(), store.clone()).await;
    let other = Server::with_stores(store.clone(), store).await;
    let (id, _) = one.create(json!({ "name": "ci" })).await;
    let rotate_on = async |server: &Server| {
        let headers = [("idempotency-key", KEY)];
        let admin = one.admin.expose_secret();
        rotate(server, admin, &format!("/{id}"), &headers, "PT0S").await
    };
    let (first, second) = tokio::join!(rotate_on(&one), rotate_on(&other));
    assert_eq!((first.status, second.status), (200, 200));
    let tokens = [&first, &second].map(|response| response.json()["token"].clone());
    assert_eq!(tokens.iter().filter(|token| token.is_null()).count(), 1);
    let created = tokens.iter().find_map(Value::as_str).unwrap();
    assert!(works(&one, created).await);
}
