//! `/revoke` takes the secret itself as authority, as it is when the body has arrived.

use std::sync::Arc;

use serde_json::json;

use crate::site::{Site, Token};
use crate::slow_bodies::Pending;
use crate::wire::Call;

const FORM: &str = "application/x-www-form-urlencoded";

async fn begin(site: &Site, token: &Token) -> Pending {
    let form = format!("token={}", token.secret);
    Pending::send(site, &Call::new("POST", "/revoke"), FORM, &form).await
}

pub(crate) async fn a_secret_rotated_away_meanwhile_revokes_nothing(site: Arc<Site>) {
    let token = site.holder(&["builds:read"]).await;
    let pending = begin(&site, &token).await;
    let call = format!("POST /service-tokens/{}/rotate", token.id);
    let rotated = Token::of(&site.admin(&call, None).await.assert(200));
    let before = site.listed().await;
    // RFC 7009 §2.2: an invalid token is answered with 200.
    pending.complete().await.assert(200);
    assert_eq!(site.listed().await, before);
    assert_eq!(site.status_of(&rotated.secret).await, 200);

    // A secret in its grace period is still one of the token's own.
    let body = json!({ "grace": "1h" });
    let call = format!("POST /service-tokens/{}/rotate", rotated.id);
    let pending = begin(&site, &rotated).await;
    site.admin(&call, Some(body)).await.assert(200);
    pending.complete().await.assert(200);
    assert_eq!(site.shown(&token.id).await["state"], "revoked");
}

pub(crate) async fn a_disabled_token_is_revoked_by_its_secret(site: Arc<Site>) {
    let disabled = site.holder(&["builds:read"]).await;
    let expired = site.holder(&["service-tokens:write"]).await;
    let stripped = site.holder(&["builds:read"]).await;
    let tokens = [&disabled, &expired, &stripped];
    let mut pending = Vec::new();
    for token in tokens {
        pending.push(begin(&site, token).await);
    }
    let call = format!("POST /service-tokens/{}/disable", disabled.id);
    site.admin(&call, None).await.assert(200);
    site.expire(&expired).await;
    site.patch(&stripped.id, json!({ "scopes": [] })).await;
    for (pending, token) in pending.into_iter().zip(tokens) {
        pending.complete().await.assert(200);
        assert_eq!(site.shown(&token.id).await["state"], "revoked");
    }
}
