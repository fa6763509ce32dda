//! An application's wildcards do not administer tokens.

use std::sync::Arc;

use serde_json::json;

use crate::authority::error_responses::Api;
use crate::authority::service::TestService;
use crate::http1::HttpRequest;

const LEADING: [&str; 4] = ["*:read", "*:write", "*:*", "*:**"];

/// The statuses of reading, creating, both dialects and introspecting.
async fn statuses(service: &TestService, scope: &str) -> Vec<u16> {
    let caller = service.holder(&[scope]).await;
    let created = json!({ "name": "made" });
    let mut statuses = Vec::new();
    for (call, body) in [
        ("GET /service-tokens", None),
        ("POST /service-tokens", Some(created.clone())),
        (
            "POST /service-tokens/revoke",
            Some(json!({ "filter": {}, "dry_run": true })),
        ),
        ("GET /api/v1/service-account-tokens", None),
        ("POST /api/v1/service-account-tokens", Some(created.clone())),
        ("GET /api/security/tokens", None),
        ("POST /api/security/tokens", Some(created)),
    ] {
        statuses.push(service.call(&caller.secret, call, body).await.status);
    }
    let introspect = HttpRequest::form("/introspect", &caller.secret).with_key(&caller.secret);
    statuses.push(introspect.send(service.address).await.status);
    statuses
}

pub(crate) async fn leading_wildcards_do_not_reach_reserved_scopes(service: Arc<TestService>) {
    for scope in LEADING {
        assert_eq!(statuses(&service, scope).await, [403; 8], "{scope}");
        let caller = service.holder(&[scope]).await;
        for (wanted, status) in [
            ("service-tokens:read", 403),
            ("service-tokens:admin", 403),
            ("introspect", 403),
            ("introspect:read", 403),
        ] {
            let verify = format!("GET /verify?scope={wanted}");
            let answer = service.call(&caller.secret, &verify, None).await;
            assert_eq!(answer.status, status, "{scope} over {wanted}");
        }
    }
    let reader = service.holder(&["*:read"]).await;
    let verify = service.call(&reader.secret, "GET /verify?scope=builds:read", None);
    verify.await.assert(200);
}

pub(crate) async fn reserved_names_and_lone_wildcards_reach_reserved_scopes(
    service: Arc<TestService>,
) {
    let own = [200, 201, 200, 200, 201, 200, 200];
    for (scope, introspects) in [
        ("service-tokens:*", false),
        ("service-tokens:**", false),
        ("*", true),
        ("**", true),
    ] {
        let introspection = if introspects { 200 } else { 403 };
        let expected: Vec<_> = own.into_iter().chain([introspection]).collect();
        assert_eq!(statuses(&service, scope).await, expected, "{scope}");
    }
}

pub(crate) async fn leading_wildcards_do_not_grant_reserved_scopes(service: Arc<TestService>) {
    for leading in LEADING {
        let caller = service.holder(&[leading, "service-tokens:write"]).await;
        let before = service.listed().await;
        for scope in [
            "service-tokens:read",
            "service-tokens:admin",
            "service-tokens:*",
            "service-tokens:**",
            "introspect",
            "introspect:**",
            "*",
            "**",
        ] {
            for (api, call, body) in [
                (
                    Api::Management,
                    "POST /service-tokens",
                    json!({ "name": "made", "scopes": [scope] }),
                ),
                (
                    Api::PipeOps,
                    "POST /api/v1/service-account-tokens",
                    json!({ "name": "made", "permissions": [scope] }),
                ),
            ] {
                let answer = service.call(&caller.secret, call, Some(body)).await;
                let what = format!("{leading} grants {scope}");
                api.assert_refused(&answer, 403, "escalation_denied", &what);
            }
        }
        assert_eq!(service.listed().await, before);
        let body = json!({ "name": "made", "scopes": [leading, "service-tokens:write"] });
        let made = service.call(&caller.secret, "POST /service-tokens", Some(body));
        made.await.assert(201);
    }
}
