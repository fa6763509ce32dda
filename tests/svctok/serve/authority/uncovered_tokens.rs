//! A writer cannot change a token that has a role or scope that the writer does not cover.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::authority::error_responses::Api;
use crate::authority::service::{TestService, Token};

/// Creates a writer that lacks one right of each token in `uncovered_tokens`.
async fn writer(service: &TestService) -> Token {
    let scopes = ["service-tokens:write", "service-tokens:read", "vault:read"];
    service
        .create(json!({ "name": "writer", "roles": ["deployer"], "scopes": scopes }))
        .await
}

/// Creates tokens that each have one right more than the writer.
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

type Change = (Api, &'static str, fn(&Token) -> String, Value);

/// Returns every request that changes one token.
fn changes() -> Vec<Change> {
    const MANAGEMENT: Api = Api::Management;
    let management = |token: &Token| format!("/service-tokens/{}", token.id);
    let pipeops = |token: &Token| format!("/api/v1/service-account-tokens/{}", token.id);
    vec![
        (
            MANAGEMENT,
            "PATCH",
            management,
            json!({ "name": "renamed" }),
        ),
        (
            MANAGEMENT,
            "PATCH",
            management,
            json!({ "subject": "other" }),
        ),
        (
            MANAGEMENT,
            "PATCH",
            management,
            json!({ "roles": [], "scopes": [] }),
        ),
        (
            MANAGEMENT,
            "PATCH",
            management,
            json!({ "expires_in": "1d" }),
        ),
        (
            MANAGEMENT,
            "PATCH",
            management,
            json!({ "labels": { "a": "b" } }),
        ),
        (MANAGEMENT, "PATCH", management, json!({})),
        (
            MANAGEMENT,
            "POST",
            |it| format!("/service-tokens/{}/rotate", it.id),
            json!({}),
        ),
        (
            MANAGEMENT,
            "POST",
            |it| format!("/service-tokens/{}/disable", it.id),
            Value::Null,
        ),
        (
            MANAGEMENT,
            "POST",
            |it| format!("/service-tokens/{}/enable", it.id),
            Value::Null,
        ),
        (MANAGEMENT, "DELETE", management, Value::Null),
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

/// Returns the ID of the token with this name in the `StackState` API.
async fn stackstate_id(service: &TestService, name: &str) -> i64 {
    let listed = service
        .send_as_admin("GET /api/security/tokens", None)
        .await;
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
    service.send_as_admin(&disable, None).await.assert(200);
    let before = service.list().await;
    for token in uncovered_tokens.iter().chain([&disabled]) {
        for (api, method, target, body) in changes() {
            let request = format!("{method} {}", target(token));
            let body = (!body.is_null()).then_some(body);
            let response = service.send(&writer.secret, &request, body).await;
            api.assert_rejected(&response, 403, "escalation_denied", &request);
        }
    }
    for name in ["uncovered_tokens", "disabled"] {
        let id = stackstate_id(&service, name).await;
        let request = format!("DELETE /api/security/tokens/{id}");
        let response = service.send(&writer.secret, &request, None).await;
        Api::StackState.assert_rejected(&response, 403, "", &request);
    }
    assert_eq!(service.list().await, before);
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
    let before = service.list().await;
    let request = "POST /service-tokens/revoke";
    let filter = json!({ "name": "uncovered_tokens" });
    let preview = json!({ "filter": filter, "dry_run": true });
    let preview = service.send(&writer.secret, request, Some(preview)).await;
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
        let response = service
            .send(&writer.secret, request, Some(body.clone()))
            .await;
        Api::Management.assert_rejected(&response, 403, "escalation_denied", &body.to_string());
        assert_ne!(response.json()["forbidden"], 0);
    }
    assert_eq!(service.list().await, before);

    // A filter that matches no token is accepted.
    let body =
        json!({ "filter": { "name": "uncovered_tokens", "role": "deployer", "scope": "none" } });
    let none = service.send(&writer.secret, request, Some(body)).await;
    assert_eq!(none.assert(200).json()["revoked"], 0);
    let preview = service
        .send_as_admin(request, Some(json!({ "filter": filter, "dry_run": true })))
        .await;
    assert_eq!(preview.assert(200).json()["forbidden"], 0);
}

pub(crate) async fn rejects_removing_rights_from_uncovered_token(service: Arc<TestService>) {
    let writer = writer(&service).await;
    let privileged = service
        .create(json!({ "name": "privileged", "subject": "payments", "roles": ["boss"] }))
        .await;
    let target = format!("/service-tokens/{}", privileged.id);
    let update = format!("PATCH {target}");
    let body = json!({ "roles": [], "scopes": [] });
    let response = service
        .send(&writer.secret, &update, Some(body.clone()))
        .await;
    Api::Management.assert_rejected(&response, 403, "escalation_denied", &update);
    assert_eq!(response.json()["missing"], json!(["boss"]));

    // After an administrator has removed the rights, the writer can rotate the token. It still cannot add
    // rights that it does not have.
    service.patch(&privileged.id, body).await;
    let rotate = format!("POST {target}/rotate");
    let rotated = service.send(&writer.secret, &rotate, None).await;
    let rotated = Token::from_response(&rotated.assert(200));
    let body = json!({ "roles": ["boss"] });
    let response = service.send(&writer.secret, &update, Some(body)).await;
    Api::Management.assert_rejected(&response, 403, "escalation_denied", &update);
    let verify = service
        .send(&rotated.secret, "GET /verify?role=boss", None)
        .await;
    verify.assert(403);
}
