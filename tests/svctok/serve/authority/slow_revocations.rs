//! `/revoke` checks the presented secret when the body is complete.

use std::sync::Arc;

use serde_json::json;

use crate::authority::service::{TestService, Token};
use crate::authority::slow_bodies::Pending;
use crate::http1::HttpRequest;

const FORM: &str = "application/x-www-form-urlencoded";

async fn begin(service: &TestService, token: &Token) -> Pending {
    let form = format!("token={}", token.secret);
    Pending::send(service, &HttpRequest::new("POST", "/revoke"), FORM, &form).await
}

pub(crate) async fn superseded_secret_revokes_nothing(service: Arc<TestService>) {
    let token = service.holder(&["builds:read"]).await;
    let pending = begin(&service, &token).await;
    let call = format!("POST /service-tokens/{}/rotate", token.id);
    let rotated = Token::of(&service.admin(&call, None).await.assert(200));
    let before = service.listed().await;
    // RFC 7009 §2.2: an invalid token is answered with 200.
    pending.complete().await.assert(200);
    assert_eq!(service.listed().await, before);
    assert_eq!(service.status_of(&rotated.secret).await, 200);

    // A secret in its grace period is still one of the token's own.
    let body = json!({ "grace": "1h" });
    let call = format!("POST /service-tokens/{}/rotate", rotated.id);
    let pending = begin(&service, &rotated).await;
    service.admin(&call, Some(body)).await.assert(200);
    pending.complete().await.assert(200);
    assert_eq!(service.shown(&token.id).await["state"], "revoked");
}

pub(crate) async fn revokes_disabled_token_by_its_secret(service: Arc<TestService>) {
    let disabled = service.holder(&["builds:read"]).await;
    let expired = service.holder(&["service-tokens:write"]).await;
    let stripped = service.holder(&["builds:read"]).await;
    let tokens = [&disabled, &expired, &stripped];
    let mut pending = Vec::new();
    for token in tokens {
        pending.push(begin(&service, token).await);
    }
    let call = format!("POST /service-tokens/{}/disable", disabled.id);
    service.admin(&call, None).await.assert(200);
    service.expire(&expired).await;
    service.patch(&stripped.id, json!({ "scopes": [] })).await;
    for (pending, token) in pending.into_iter().zip(tokens) {
        pending.complete().await.assert(200);
        assert_eq!(service.shown(&token.id).await["state"], "revoked");
    }
}
