//! Without `service-tokens:admin`, a caller cannot create or extend a token beyond its own expiry.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::authority::error_responses::Api;
use crate::authority::service::{TestService, Token};

const DAY: i64 = 86_400;

/// Creates a writer that expires in ten days. Returns it with its expiry.
async fn writer(service: &TestService) -> (Token, String) {
    let expires_at = service.time_in(10 * DAY);
    let scopes = ["service-tokens:write", "service-tokens:read", "builds:*"];
    let body = json!({
        "name": "writer", "roles": ["deployer"], "scopes": scopes, "expires_at": expires_at,
    });
    (service.create(body).await, expires_at)
}

/// Creates tokens that expire a day before the writer, a day after it, and never.
async fn create_others(service: &TestService) -> [Token; 3] {
    let mut others = Vec::new();
    for expires_at in [
        json!(service.time_in(9 * DAY)),
        json!(service.time_in(11 * DAY)),
        Value::Null,
    ] {
        let body = json!({ "name": "other", "scopes": ["builds:read"], "expires_at": expires_at });
        others.push(service.create(body).await);
    }
    others.try_into().unwrap()
}

pub(crate) async fn new_token_never_outlives_its_creator(service: Arc<TestService>) {
    let (writer, latest) = writer(&service).await;
    let before = service.list().await;
    let request = "POST /service-tokens";
    for expiry in [
        json!({ "expires_at": null }),
        json!({ "expires_in": null }),
        json!({ "expires_at": service.time_in(10 * DAY + 1) }),
        json!({ "expires_at": "9998-12-31" }),
        json!({ "expires_in": "20d" }),
        json!({ "expires_in": "P1Y" }),
    ] {
        let mut body = json!({ "name": "made", "roles": ["deployer"] });
        body.as_object_mut()
            .unwrap()
            .extend(expiry.as_object().unwrap().clone());
        let response = service.send(&writer.secret, request, Some(body)).await;
        Api::Management.assert_rejected(&response, 403, "escalation_denied", &expiry.to_string());
    }
    assert_eq!(service.list().await, before);

    let created = service
        .send(&writer.secret, request, Some(json!({ "name": "made" })))
        .await;
    let created = created.assert(201).json();
    assert_eq!(created["service_token"]["expires_at"], latest);
    for expires_at in [latest.clone(), service.time_in(DAY)] {
        let body = json!({ "name": "made", "expires_at": expires_at });
        let created = service.send(&writer.secret, request, Some(body)).await;
        let created = created.assert(201).json();
        assert_eq!(created["service_token"]["expires_at"], expires_at);
    }
    // The expiry of an administrator does not limit the tokens that it creates.
    let body = json!({ "name": "a", "scopes": ["service-tokens:*"], "expires_at": latest });
    let admin = service.create(body).await;
    let created = service
        .send(&admin.secret, request, Some(json!({ "name": "made" })))
        .await;
    let created = created.assert(201).json();
    assert_eq!(created["service_token"]["expires_at"], Value::Null);
}

pub(crate) async fn update_never_extends_a_token_beyond_the_caller(service: Arc<TestService>) {
    let (writer, latest) = writer(&service).await;
    let [earlier, later, never] = create_others(&service).await;
    let patch_own = format!("PATCH /service-tokens/{}", writer.id);
    let patch = |token: &Token| format!("PATCH /service-tokens/{}", token.id);
    let before = service.list().await;
    for (request, body) in [
        (patch_own, json!({ "expires_in": "20d" })),
        (patch(&earlier), json!({ "expires_at": null })),
        (
            patch(&earlier),
            json!({ "expires_at": service.time_in(10 * DAY + 1) }),
        ),
        (
            patch(&later),
            json!({ "expires_at": service.time_in(12 * DAY) }),
        ),
        (patch(&later), json!({ "expires_at": null })),
        (
            patch(&later),
            json!({ "expires_at": service.time_in(11 * DAY), "roles": ["deployer"] }),
        ),
        (
            patch(&never),
            json!({ "expires_at": null, "scopes": ["builds:*"] }),
        ),
    ] {
        let context = format!("{request} {body}");
        let response = service.send(&writer.secret, &request, Some(body)).await;
        Api::Management.assert_rejected(&response, 403, "escalation_denied", &context);
    }
    assert_eq!(service.list().await, before);

    for (token, body, expiry) in [
        (&earlier, json!({ "expires_at": latest }), json!(latest)),
        // An update that adds rights limits the expiry to that of the caller.
        (&later, json!({ "roles": ["deployer"] }), json!(latest)),
        (
            &never,
            json!({ "scopes": ["builds:read", "builds:write"] }),
            json!(latest),
        ),
    ] {
        let changed = service
            .send(&writer.secret, &patch(token), Some(body))
            .await;
        assert_eq!(changed.assert(200).json()["expires_at"], expiry);
    }
}

pub(crate) async fn longer_lived_token_can_be_renamed_but_not_rotated_or_enabled(
    service: Arc<TestService>,
) {
    let (writer, latest) = writer(&service).await;
    let [earlier, later, never] = create_others(&service).await;
    for token in [&later, &never] {
        let before = service.list().await;
        let request = format!("POST /service-tokens/{}/rotate", token.id);
        for body in [json!({}), json!({ "grace": "1h" })] {
            let response = service.send(&writer.secret, &request, Some(body)).await;
            Api::Management.assert_rejected(&response, 403, "escalation_denied", &request);
        }
        assert_eq!(service.list().await, before);
        assert_eq!(service.status_of(&token.secret).await, 200);
        let request = format!("PATCH /service-tokens/{}", token.id);
        for body in [json!({ "name": "renamed" }), json!({ "scopes": [] })] {
            let changed = service.send(&writer.secret, &request, Some(body)).await;
            let changed = changed.assert(200).json();
            assert_eq!(changed["expires_at"], before[&token.id]["expires_at"]);
        }
    }
    for (token, status) in [(&earlier, 200), (&later, 403), (&never, 403)] {
        let request = |verb: &str| format!("POST /service-tokens/{}/{verb}", token.id);
        let disabled = service
            .send(&writer.secret, &request("disable"), None)
            .await;
        disabled.assert(200);
        let enabled = service.send(&writer.secret, &request("enable"), None).await;
        assert_eq!(enabled.status, status, "{enabled:?}");
    }
    for token in [&earlier, &writer] {
        let request = format!("POST /service-tokens/{}/rotate", token.id);
        let rotated = service.send(&writer.secret, &request, None).await;
        let expires_at = &rotated.assert(200).json()["service_token"]["expires_at"];
        assert!(expires_at.as_str().unwrap() <= latest.as_str());
    }
}

pub(crate) async fn dialects_limit_lifetimes_to_the_callers(service: Arc<TestService>) {
    let (writer, latest) = writer(&service).await;
    let [earlier, later, never] = create_others(&service).await;
    let pipeops = "/api/v1/service-account-tokens";
    let patch = |token: &Token| format!("PATCH {pipeops}/{}", token.id);
    let far = service.time_in(12 * DAY);
    let before = service.list().await;
    for (request, body) in [
        (
            format!("POST {pipeops}"),
            json!({ "name": "made", "expires_at": far }),
        ),
        (
            format!("POST {pipeops}"),
            json!({ "name": "made", "expires_in": 20 }),
        ),
        (patch(&earlier), json!({ "expires_in": 20 })),
        (
            patch(&earlier),
            json!({ "expires_at": far, "is_active": true }),
        ),
        (patch(&later), json!({ "expires_at": far })),
    ] {
        let context = format!("{request} {body}");
        let response = service.send(&writer.secret, &request, Some(body)).await;
        Api::PipeOps.assert_rejected(&response, 403, "", &context);
    }
    let millis = |time: &str| time.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let create = "POST /api/security/tokens";
    let body = json!({ "name": "made", "roles": ["deployer"], "expiryDate": millis(&far) });
    let response = service.send(&writer.secret, create, Some(body)).await;
    Api::StackState.assert_rejected(&response, 403, "", create);
    assert_eq!(service.list().await, before);

    let created = json!({ "name": "made", "expires_at": null });
    let created = service
        .send(&writer.secret, &format!("POST {pipeops}"), Some(created))
        .await;
    assert_eq!(
        created.assert(201).json()["data"]["token"]["expires_at"],
        latest
    );
    let body = json!({ "permissions": ["builds:read", "builds:write"] });
    let changed = service
        .send(&writer.secret, &patch(&never), Some(body))
        .await;
    let changed = changed.assert(200).json();
    assert_eq!(changed["data"]["token"]["expires_at"], latest);
    for expiry in [Value::Null, json!(millis(&latest))] {
        let body = json!({ "name": "made", "roles": ["deployer"], "expiryDate": expiry });
        let created = service.send(&writer.secret, create, Some(body)).await;
        assert_eq!(created.assert(200).json()["expiration"], millis(&latest));
    }
}
