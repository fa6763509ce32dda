//! `/revoke` checks the presented secret when the body is complete.

use std::sync::Arc;

use serde_json::json;

use crate::authority::service::{TestService, Token};
use crate::authority::slow_bodies::Pending;
use crate::http1::HttpRequest;

const FORM: &str = "application/x-www-form-urlencoded";

/// Sends the head of a revocation and returns after the service has requested the body.
async fn send_head(service: &TestService, token: &Token) -> Pending {
    let form = format!("token={}", token.secret);
    Pending::send(service, &HttpRequest::new("POST", "/revoke"), FORM, &form).await
}

pub(crate) async fn superseded_secret_revokes_nothing(service: Arc<TestService>) {
    let token = service.create_with_scopes(&["builds:read"]).await;
    let pending = send_head(&service, &token).await;
    let request = format!("POST /service-tokens/{}/rotate", token.id);
    let rotated = Token::from_response(&service.send_as_admin(&request, None).await.assert(200));
    let before = service.list().await;
    // RFC 7009 §2.2: the response for an invalid token is 200.
    pending.complete().await.assert(200);
    assert_eq!(service.list().await, before);
    assert_eq!(service.status_of(&rotated.secret).await, 200);

    // A secret in its grace period can still revoke the token.
    let body = json!({ "grace": "1h" });
    let request = format!("POST /service-tokens/{}/rotate", rotated.id);
    let pending = send_head(&service, &rotated).await;
    service
        .send_as_admin(&request, Some(body))
        .await
        .assert(200);
    pending.complete().await.assert(200);
    assert_eq!(service.get(&token.id).await["state"], "revoked");
}

pub(crate) async fn revokes_disabled_token_by_its_secret(service: Arc<TestService>) {
    let disabled = service.create_with_scopes(&["builds:read"]).await;
    let expired = service.create_with_scopes(&["service-tokens:write"]).await;
    let stripped = service.create_with_scopes(&["builds:read"]).await;
    let tokens = [&disabled, &expired, &stripped];
    let mut pending = Vec::new();
    for token in tokens {
        pending.push(send_head(&service, token).await);
    }
    let request = format!("POST /service-tokens/{}/disable", disabled.id);
    service.send_as_admin(&request, None).await.assert(200);
    service.expire(&expired).await;
    service.patch(&stripped.id, json!({ "scopes": [] })).await;
    for (pending, token) in pending.into_iter().zip(tokens) {
        pending.complete().await.assert(200);
        assert_eq!(service.get(&token.id).await["state"], "revoked");
    }
}
