//! Wildcard scopes for an application do not cover the scopes that administer tokens.

use std::sync::Arc;

use serde_json::json;

use crate::authority::error_responses::Api;
use crate::authority::service::TestService;
use crate::http1::HttpRequest;

const LEADING_WILDCARDS: [&str; 4] = ["*:read", "*:write", "*:*", "*:**"];

/// Returns the statuses of listing, creating and revoking in each API, and of introspection.
async fn statuses(service: &TestService, scope: &str) -> Vec<u16> {
    let caller = service.create_with_scopes(&[scope]).await;
    let created = json!({ "name": "made" });
    let mut statuses = Vec::new();
    for (request, body) in [
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
        statuses.push(service.send(&caller.secret, request, body).await.status);
    }
    let introspect = HttpRequest::form("/introspect", &caller.secret).with_key(&caller.secret);
    statuses.push(introspect.send(service.address).await.status);
    statuses
}

pub(crate) async fn leading_wildcards_do_not_cover_reserved_scopes(service: Arc<TestService>) {
    for scope in LEADING_WILDCARDS {
        assert_eq!(statuses(&service, scope).await, [403; 8], "{scope}");
        let caller = service.create_with_scopes(&[scope]).await;
        for (required, status) in [
            ("service-tokens:read", 403),
            ("service-tokens:admin", 403),
            ("introspect", 403),
            ("introspect:read", 403),
        ] {
            let verify = format!("GET /verify?scope={required}");
            let response = service.send(&caller.secret, &verify, None).await;
            assert_eq!(response.status, status, "{scope} for {required}");
        }
    }
    let reader = service.create_with_scopes(&["*:read"]).await;
    let verify = service.send(&reader.secret, "GET /verify?scope=builds:read", None);
    verify.await.assert(200);
}

pub(crate) async fn reserved_names_and_lone_wildcards_cover_reserved_scopes(
    service: Arc<TestService>,
) {
    let allowed = [200, 201, 200, 200, 201, 200, 200];
    for (scope, may_introspect) in [
        ("service-tokens:*", false),
        ("service-tokens:**", false),
        ("*", true),
        ("**", true),
    ] {
        let introspection = if may_introspect { 200 } else { 403 };
        let expected: Vec<_> = allowed.into_iter().chain([introspection]).collect();
        assert_eq!(statuses(&service, scope).await, expected, "{scope}");
    }
}

pub(crate) async fn leading_wildcards_do_not_grant_reserved_scopes(service: Arc<TestService>) {
    for leading in LEADING_WILDCARDS {
        let caller = service
            .create_with_scopes(&[leading, "service-tokens:write"])
            .await;
        let before = service.list().await;
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
            for (api, request, body) in [
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
                let response = service.send(&caller.secret, request, Some(body)).await;
                let context = format!("{leading} grants {scope}");
                api.assert_rejected(&response, 403, "escalation_denied", &context);
            }
        }
        assert_eq!(service.list().await, before);
        let body = json!({ "name": "made", "scopes": [leading, "service-tokens:write"] });
        let created = service.send(&caller.secret, "POST /service-tokens", Some(body));
        created.await.assert(201);
    }
}
