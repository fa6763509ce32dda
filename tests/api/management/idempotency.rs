//! Repeated creations with an `Idempotency-Key`.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use tower_service_token::MemoryStore;
use tower_service_token::lifecycle::IssuedToken;

use crate::management::{ApiResponse, ManagementResponse, Server};

const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

async fn create_as(
    caller: &IssuedToken,
    server: &Server,
    keys: &[&str],
    body: &Value,
) -> ApiResponse {
    let mut request = Request::post("/api/service-tokens")
        .header("x-api-key", caller.expose_secret())
        .header("content-type", "application/json");
    for key in keys {
        request = request.header("idempotency-key", *key);
    }
    server
        .send(request.body(Body::from(body.to_string())).unwrap())
        .await
}

#[tokio::test]
async fn repeated_creations_return_the_record() {
    let server = Server::new().await;
    let body = json!({ "name": "ci", "roles": ["deployer"], "expires_in": "30d" });
    let first = create_as(&server.admin, &server, &[KEY], &body).await;
    assert_eq!(first.status, 201, "{first:?}");
    assert_eq!(first.header("idempotency-replayed"), None);
    let created = first.json();
    let quoted = format!("\"{KEY}\"");
    for (key, lifetime) in [(KEY, "30 days"), (&quoted, "P30D")] {
        let body = json!({ "name": "ci", "roles": ["deployer"], "expires_in": lifetime });
        server.clock.advance(crate::management::SECOND);
        let repeated = create_as(&server.admin, &server, &[key], &body).await;
        assert_eq!(repeated.status, 200, "{repeated:?}");
        assert_eq!(repeated.header("idempotency-replayed"), Some("true"));
        assert_eq!(repeated.header("location"), first.header("location"));
        assert_eq!(repeated.header("cache-control"), Some("no-store"));
        let expected = json!({ "token": null, "service_token": created["service_token"] });
        assert_eq!(repeated.json(), expected);
    }
    let list = server.call("GET ?name=ci", None).await.json();
    assert_eq!(list["service_tokens"], json!([created["service_token"]]));

    // A caller that lost the secret rotates the token.
    let id = created["service_token"]["id"].as_str().unwrap();
    let rotated = server
        .call(&format!("POST /{id}/rotate"), None)
        .await
        .json();
    for (secret, status) in [(&rotated, 200), (&created, 401)] {
        let secret = secret["token"].as_str();
        let response = server.call_as(secret, "GET /self", None).await;
        assert_eq!(response.status, status);
    }
    let repeated = create_as(&server.admin, &server, &[KEY], &body).await;
    assert_eq!(repeated.json()["service_token"], rotated["service_token"]);
}

#[tokio::test]
async fn reused_and_malformed_keys_create_nothing() {
    let server = Server::new().await;
    let body = json!({ "name": "ci" });
    let first = create_as(&server.admin, &server, &[KEY], &body).await;
    assert_eq!(first.status, 201, "{first:?}");
    let other = json!({ "name": "cd" });
    let response = create_as(&server.admin, &server, &[KEY], &other).await;
    response.assert_error(422, "idempotency_key_reused");
    let long = "a".repeat(256);
    for keys in [
        &[""][..],
        &["a b"],
        &["\"a"],
        &["\"\""],
        &[&long],
        &[KEY, KEY],
        &[KEY, "other"],
    ] {
        let rejected = create_as(&server.admin, &server, keys, &body).await;
        rejected.assert_error(400, "invalid_request");
    }
    let list = server.call("GET ?name=ci", None).await.json();
    assert_eq!(list["service_tokens"].as_array().unwrap().len(), 1);
    assert_eq!(
        server.call("GET ?name=cd", None).await.json()["service_tokens"],
        json!([])
    );
}

#[tokio::test]
async fn keys_of_other_callers_are_independent() {
    let server = Server::new().await;
    let body = json!({ "name": "ci", "description": "of the administrator" });
    let first = create_as(&server.admin, &server, &[KEY], &body).await;
    let writer = server.holder(&["service-tokens:write"]).await;
    let of_writer = create_as(&writer, &server, &[KEY], &json!({ "name": "ci" })).await;
    assert_eq!(of_writer.status, 201, "{of_writer:?}");
    assert_ne!(of_writer.header("location"), first.header("location"));
    assert!(!of_writer.body.contains("administrator"));
    let repeated = create_as(&writer, &server, &[KEY], &json!({ "name": "ci" })).await;
    assert_eq!(
        (repeated.status, repeated.json()["token"].is_null()),
        (200, true)
    );
    // A caller that may not create tokens gets no information about them.
    let reader = server.holder(&["service-tokens:read"]).await;
    let rejected = create_as(&reader, &server, &[KEY], &body).await;
    rejected.assert_error(403, "insufficient_scope");
}

#[tokio::test]
async fn nodes_of_one_store_share_keys() {
    let store = MemoryStore::new();
    let one = Server::with_stores(store.clone(), store.clone()).await;
    let other = Server::with_stores(store.clone(), store).await;
    let body = json!({ "name": "ci" });
    let (first, second) = tokio::join!(
        create_as(&one.admin, &one, &[KEY], &body),
        create_as(&one.admin, &other, &[KEY], &body),
    );
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 201]);
    assert_eq!(first.header("location"), second.header("location"));
}
