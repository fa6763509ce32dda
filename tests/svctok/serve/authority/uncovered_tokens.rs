//! A writer changes no token that has a role or a scope which it does not cover.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::authority::error_responses::Api;
use crate::authority::service::{TestService, Token};

/// A token that covers `uncovered_tokens` but for one right.
async fn writer(service: &TestService) -> Token {
    let scopes = ["service-tokens:write", "service-tokens:read", "vault:read"];
    service
        .create(json!({ "name": "writer", "roles": ["deployer"], "scopes": scopes }))
        .await
}

/// Tokens with one more right each.
async fn uncovered_tokens(service: &TestService) -> Vec<Token> {
    let mut uncovered_tokens = Vec::new();
    for (roles, scopes) in [
        (&["deployer", "boss"][..], &["vault:read"][..]),
        (&["deployer"], &["vault:*"]),
        (&[], &["introspect"]),
        (&[], &["service-tokens:admin"]),
    ] {
        let body = json!({ "name": "uncovered_tokens", "roles": roles, "scopes": scopes });
        uncovered_tokens.push(service.create(body).await);
    }
    uncovered_tokens
}

type Path = (Api, &'static str, fn(&Token) -> String, Value);

/// Every request that changes one token.
fn paths() -> Vec<Path> {
    const OWN: Api = Api::Management;
    let own = |token: &Token| format!("/service-tokens/{}", token.id);
    let pipeops = |token: &Token| format!("/api/v1/service-account-tokens/{}", token.id);
    vec![
        (OWN, "PATCH", own, json!({ "name": "renamed" })),
        (OWN, "PATCH", own, json!({ "subject": "other" })),
        (OWN, "PATCH", own, json!({ "roles": [], "scopes": [] })),
        (OWN, "PATCH", own, json!({ "expires_in": "1d" })),
        (OWN, "PATCH", own, json!({ "labels": { "a": "b" } })),
        (OWN, "PATCH", own, json!({})),
        (
            OWN,
            "POST",
            |it| format!("/service-tokens/{}/rotate", it.id),
            json!({}),
        ),
        (
            OWN,
            "POST",
            |it| format!("/service-tokens/{}/disable", it.id),
            Value::Null,
        ),
        (
            OWN,
            "POST",
            |it| format!("/service-tokens/{}/enable", it.id),
            Value::Null,
        ),
        (OWN, "DELETE", own, Value::Null),
        (Api::PipeOps, "PATCH", pipeops, json!({ "name": "renamed" })),
        (Api::PipeOps, "PATCH", pipeops, json!({ "permissions": [] })),
        (
            Api::PipeOps,
            "PATCH",
            pipeops,
            json!({ "is_active": false }),
        ),
        (Api::PipeOps, "PATCH", pipeops, json!({ "is_active": true })),
        (
            Api::PipeOps,
            "PATCH",
            pipeops,
            json!({ "is_active": true, "scopes": [] }),
        ),
        (Api::PipeOps, "PATCH", pipeops, json!({ "expires_in": 1 })),
        (Api::PipeOps, "DELETE", pipeops, Value::Null),
    ]
}

/// The id that the `StackState` API has for a token of this name and these roles.
async fn stackstate_id(service: &TestService, name: &str) -> i64 {
    let listed = service.admin("GET /api/security/tokens", None).await;
    let listed = listed.assert(200).json();
    let tokens = listed.as_array().unwrap();
    let token = tokens.iter().find(|it| it["name"] == name).unwrap();
    token["id"].as_i64().unwrap()
}

pub(crate) async fn rejects_changes_to_uncovered_tokens_by_every_operation(
    service: Arc<TestService>,
) {
    let writer = writer(&service).await;
    let uncovered_tokens = uncovered_tokens(&service).await;
    let disabled = service
        .create(json!({ "name": "disabled", "roles": ["boss"] }))
        .await;
    let disable = format!("POST /service-tokens/{}/disable", disabled.id);
    service.admin(&disable, None).await.assert(200);
    let before = service.listed().await;
    for token in uncovered_tokens.iter().chain([&disabled]) {
        for (api, method, target, body) in paths() {
            let call = format!("{method} {}", target(token));
            let body = (!body.is_null()).then_some(body);
            let answer = service.call(&writer.secret, &call, body).await;
            api.assert_refused(&answer, 403, "escalation_denied", &call);
        }
    }
    for name in ["uncovered_tokens", "disabled"] {
        let id = stackstate_id(&service, name).await;
        let call = format!("DELETE /api/security/tokens/{id}");
        let answer = service.call(&writer.secret, &call, None).await;
        Api::StackState.assert_refused(&answer, 403, "", &call);
    }
    assert_eq!(service.listed().await, before);
    for token in &uncovered_tokens {
        assert_eq!(service.status_of(&token.secret).await, 200);
    }
}

pub(crate) async fn bulk_preview_counts_uncovered_tokens_as_forbidden(service: Arc<TestService>) {
    let writer = writer(&service).await;
    uncovered_tokens(&service).await;
    for _ in 0..2 {
        service
            .create(json!({ "name": "uncovered_tokens", "roles": ["deployer"] }))
            .await;
    }
    let before = service.listed().await;
    let call = "POST /service-tokens/revoke";
    let filter = json!({ "name": "uncovered_tokens" });
    let preview = json!({ "filter": filter, "dry_run": true });
    let preview = service.call(&writer.secret, call, Some(preview)).await;
    let preview = preview.assert(200).json();
    assert_eq!(
        (&preview["count"], &preview["forbidden"]),
        (&json!(6), &json!(4))
    );

    for body in [
        json!({ "filter": filter }),
        json!({ "filter": filter, "expect": 6 }),
        json!({ "filter": filter, "expect": 2 }),
        json!({ "filter": { "role": "boss" }, "expect": 1 }),
        json!({ "filter": {}, "expect": before.len() }),
    ] {
        let answer = service.call(&writer.secret, call, Some(body.clone())).await;
        Api::Management.assert_refused(&answer, 403, "escalation_denied", &body.to_string());
        assert_ne!(answer.json()["forbidden"], 0);
    }
    assert_eq!(service.listed().await, before);

    // Those that the caller covers are revoked.
    let body =
        json!({ "filter": { "name": "uncovered_tokens", "role": "deployer", "scope": "none" } });
    let none = service.call(&writer.secret, call, Some(body)).await;
    assert_eq!(none.assert(200).json()["revoked"], 0);
    let preview = service
        .admin(call, Some(json!({ "filter": filter, "dry_run": true })))
        .await;
    assert_eq!(preview.assert(200).json()["forbidden"], 0);
}

pub(crate) async fn rejects_removing_rights_from_uncovered_token(service: Arc<TestService>) {
    let writer = writer(&service).await;
    let victim = service
        .create(json!({ "name": "victim", "subject": "payments", "roles": ["boss"] }))
        .await;
    let target = format!("/service-tokens/{}", victim.id);
    let strip = format!("PATCH {target}");
    let body = json!({ "roles": [], "scopes": [] });
    let answer = service
        .call(&writer.secret, &strip, Some(body.clone()))
        .await;
    Api::Management.assert_refused(&answer, 403, "escalation_denied", &strip);
    assert_eq!(answer.json()["missing"], json!(["boss"]));

    // Stripped by an administrator, and rotated by the writer: its rights cannot be given back by
    // a caller that does not hold them.
    service.patch(&victim.id, body).await;
    let rotate = format!("POST {target}/rotate");
    let taken = service.call(&writer.secret, &rotate, None).await;
    let taken = Token::of(&taken.assert(200));
    let body = json!({ "roles": ["boss"] });
    let answer = service.call(&writer.secret, &strip, Some(body)).await;
    Api::Management.assert_refused(&answer, 403, "escalation_denied", &strip);
    let verify = service
        .call(&taken.secret, "GET /verify?role=boss", None)
        .await;
    verify.assert(403);
}
