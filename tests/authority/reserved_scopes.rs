//! An application's wildcards do not administer tokens.

use std::sync::Arc;

use serde_json::json;

use crate::refusal::Api;
use crate::site::Site;
use crate::wire::Call;

const LEADING: [&str; 4] = ["*:read", "*:write", "*:*", "*:**"];

/// The statuses of reading, creating, both dialects and introspecting.
async fn statuses(site: &Site, scope: &str) -> Vec<u16> {
    let caller = site.holder(&[scope]).await;
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
        statuses.push(site.call(&caller.secret, call, body).await.status);
    }
    let introspect = Call::form("/introspect", &caller.secret).with_key(&caller.secret);
    statuses.push(introspect.send(site.address).await.status);
    statuses
}

pub(crate) async fn leading_wildcards_do_not_reach_reserved_scopes(site: Arc<Site>) {
    for scope in LEADING {
        assert_eq!(statuses(&site, scope).await, [403; 8], "{scope}");
        let caller = site.holder(&[scope]).await;
        for (wanted, status) in [
            ("service-tokens:read", 403),
            ("service-tokens:admin", 403),
            ("introspect", 403),
            ("introspect:read", 403),
        ] {
            let verify = format!("GET /verify?scope={wanted}");
            let answer = site.call(&caller.secret, &verify, None).await;
            assert_eq!(answer.status, status, "{scope} over {wanted}");
        }
    }
    let reader = site.holder(&["*:read"]).await;
    let verify = site.call(&reader.secret, "GET /verify?scope=builds:read", None);
    verify.await.assert(204);
}

pub(crate) async fn reserved_names_and_lone_wildcards_do(site: Arc<Site>) {
    let own = [200, 201, 200, 200, 201, 200, 200];
    for (scope, introspects) in [
        ("service-tokens:*", false),
        ("service-tokens:**", false),
        ("*", true),
        ("**", true),
    ] {
        let introspection = if introspects { 200 } else { 403 };
        let expected: Vec<_> = own.into_iter().chain([introspection]).collect();
        assert_eq!(statuses(&site, scope).await, expected, "{scope}");
    }
}

pub(crate) async fn leading_wildcards_do_not_grant_reserved_scopes(site: Arc<Site>) {
    for leading in LEADING {
        let caller = site.holder(&[leading, "service-tokens:write"]).await;
        let before = site.listed().await;
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
                    Api::Problem,
                    "POST /service-tokens",
                    json!({ "name": "made", "scopes": [scope] }),
                ),
                (
                    Api::PipeOps,
                    "POST /api/v1/service-account-tokens",
                    json!({ "name": "made", "permissions": [scope] }),
                ),
            ] {
                let answer = site.call(&caller.secret, call, Some(body)).await;
                let what = format!("{leading} grants {scope}");
                api.assert_refused(&answer, 403, "escalation_denied", &what);
            }
        }
        assert_eq!(site.listed().await, before);
        let body = json!({ "name": "made", "scopes": [leading, "service-tokens:write"] });
        let made = site.call(&caller.secret, "POST /service-tokens", Some(body));
        made.await.assert(201);
    }
}
