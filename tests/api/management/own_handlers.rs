//! A failed handler of an application responds as this API does.

use axum::body::to_bytes;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tower_service_token::lifecycle::{LifecycleError, NewToken, TokenUpdate};
use tower_service_token::registry::TokenFilter;

use super::Server;

#[tokio::test]
async fn lifecycle_errors_are_the_responses_of_this_api() {
    let server = Server::new().await;
    let tokens = &server.tokens;
    let revoked = server.create(json!({ "name": "revoked" })).await.0;
    let id = revoked.parse().unwrap();
    tokens.revoke(id).await.unwrap();
    let renamed = TokenUpdate::new().with_name("new");
    let nobody = TokenFilter::new().with_name("nobody");
    for (call, body, error) in [
        (
            "POST ".to_owned(),
            json!({ "name": " x", "roles": ["\n"] }),
            tokens
                .create(NewToken::new(" x").with_roles(["\n"]))
                .await
                .map(drop),
        ),
        (
            format!("PATCH /{revoked}"),
            json!({ "name": "new" }),
            tokens.update(id, renamed.clone()).await.map(drop),
        ),
        (
            "PATCH /0000000000".to_owned(),
            json!({ "name": "new" }),
            tokens
                .update("0000000000".parse().unwrap(), renamed)
                .await
                .map(drop),
        ),
        (
            "POST /revoke".to_owned(),
            json!({ "filter": { "name": "nobody" }, "expect": 7 }),
            tokens.revoke_where(nobody, 7).await.map(drop),
        ),
    ] {
        let error: LifecycleError = error.unwrap_err();
        let expected = server.call(&call, body).await;
        let response = error.into_response();
        assert_eq!(response.status(), expected.status, "{call}");
        for name in ["content-type", "cache-control"] {
            assert_eq!(response.headers()[name], expected.headers[name], "{call}");
        }
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body, expected.json(), "{call}");
    }
}
