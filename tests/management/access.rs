//! Who may call what, and grant what.

use serde_json::{Value, json};

use crate::Server;

/// Each call with a good body, what it needs, and what it is answered with.
pub(crate) const CALLS: [(&str, &str, Need, u16); 13] = [
    ("POST ", r#"{"name":"x"}"#, Need::Write, 201),
    ("GET ", "", Need::Read, 200),
    ("GET /{id}", "", Need::Read, 200),
    ("PATCH /{id}", r#"{"description":"d"}"#, Need::Write, 200),
    ("POST /{id}/rotate", r#"{"grace":"1h"}"#, Need::Write, 200),
    ("POST /{id}/disable", "", Need::Write, 200),
    ("POST /{id}/enable", "", Need::Write, 200),
    ("DELETE /{id}", "", Need::Write, 204),
    (
        "POST /revoke",
        r#"{"filter":{"name":"nobody"}}"#,
        Need::Write,
        200,
    ),
    (
        "POST /revoke",
        r#"{"filter":{},"dry_run":true}"#,
        Need::Write,
        200,
    ),
    ("GET /self", "", Need::Nothing, 200),
    ("POST /self/rotate", "", Need::Nothing, 200),
    ("DELETE /self", "", Need::Nothing, 204),
];

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Need {
    Nothing,
    Read,
    Write,
}

#[tokio::test]
async fn each_call_needs_a_good_token_and_its_scope() {
    for (call, body, need, good) in CALLS {
        let body: Option<Value> = (!body.is_empty()).then(|| body.parse().unwrap());
        for (scopes, holds) in [
            (&[][..], &[Need::Nothing][..]),
            (&["service-tokens:read"], &[Need::Nothing, Need::Read]),
            (&["service-tokens:write"], &[Need::Nothing, Need::Write]),
            (
                &["service-tokens:admin"],
                &[Need::Nothing, Need::Read, Need::Write],
            ),
            (
                &["service-tokens:*"],
                &[Need::Nothing, Need::Read, Need::Write],
            ),
            (&["other:read", "service-tokens"], &[Need::Nothing]),
        ] {
            let server = Server::new().await;
            let (id, _) = server.create(json!({ "name": "target" })).await;
            let call = call.replace("{id}", &id);
            let holder = server.holder(scopes).await;
            let token = Some(holder.expose_secret());
            let answer = server.call_as(token, &call, body.as_ref()).await;
            let expected = if holds.contains(&need) { good } else { 403 };
            assert_eq!(answer.status, expected, "{call} by {scopes:?}: {answer:?}");
            for bad in [
                None,
                Some("svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n"),
            ] {
                let answer = server.call_as(bad, &call, body.as_ref()).await;
                assert_eq!(answer.status, 401, "{call} by {bad:?}");
                assert!(answer.header("www-authenticate").is_some());
            }
        }
    }
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold_on_any_path() {
    let server = Server::new().await;
    let strong = json!({ "name": "strong", "roles": ["admin"], "scopes": ["db:drop"] });
    let (strong, _) = server.create(strong).await;
    let (weak, _) = server
        .create(json!({ "name": "weak", "scopes": ["db:read"] }))
        .await;
    let minter = server.holder(&["service-tokens:write", "db:read"]).await;
    let token = Some(minter.expose_secret());
    let create = |extra: Value| {
        let mut body = json!({ "name": "new" });
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        ("POST ".to_owned(), body)
    };
    for ((call, body), missing) in [
        (create(json!({ "roles": ["admin"] })), &["admin"][..]),
        (
            create(json!({ "scopes": ["db:drop", "db:read"] })),
            &["db:drop"],
        ),
        (create(json!({ "scopes": ["db:*"] })), &["db:*"]),
        (
            create(json!({ "scopes": ["service-tokens:admin"] })),
            &["service-tokens:admin"],
        ),
        (
            (format!("PATCH /{weak}"), json!({ "scopes": ["*"] })),
            &["*"],
        ),
        (
            (format!("PATCH /{weak}"), json!({ "roles": ["admin"] })),
            &["admin"],
        ),
        (
            (format!("POST /{strong}/rotate"), json!({})),
            &["admin", "db:drop"],
        ),
        (
            (format!("POST /{strong}/enable"), json!({})),
            &["admin", "db:drop"],
        ),
    ] {
        let answer = server.call_as(token, &call, Some(&body)).await;
        let problem = answer.assert_refused(403, "escalation_denied");
        assert_eq!(problem["missing"], json!(missing), "{call} {body}");
        assert!(!answer.body.contains("svctok-"), "{answer:?}");
    }
    // What it holds it grants, and the administrator grants anything.
    let body = json!({ "name": "new", "scopes": ["db:read", "service-tokens:write"] });
    assert_eq!(
        server.call_as(token, "POST ", Some(&body)).await.status,
        201
    );
    let (_, secret) = server
        .create(json!({ "name": "any", "roles": ["admin"] }))
        .await;
    let own = server
        .call_as(Some(&secret), "GET /self", None)
        .await
        .json();
    assert_eq!(own["roles"], json!(["admin"]));
    assert_eq!(
        own["created_by"],
        json!(server.admin.record().id().to_string())
    );
}

#[tokio::test]
async fn a_token_serves_itself() {
    let server = Server::new().await;
    let (id, first) = server
        .create(json!({ "name": "ci", "roles": ["deployer"] }))
        .await;
    let own = server.call_as(Some(&first), "GET /self", None).await;
    assert_eq!(own.json()["id"], json!(id));
    assert!(own.header("etag").is_some());
    let rotated = server
        .call_as(Some(&first), "POST /self/rotate", None)
        .await
        .json();
    let second = rotated["token"].as_str().unwrap();
    assert_eq!(
        server.call_as(Some(&first), "GET /self", None).await.status,
        401
    );
    assert_eq!(
        server.call_as(Some(second), "GET /self", None).await.status,
        200
    );
    assert_eq!(
        server
            .call_as(Some(second), "DELETE /self", None)
            .await
            .status,
        204
    );
    assert_eq!(
        server.call_as(Some(second), "GET /self", None).await.status,
        401
    );
    assert_eq!(
        server.call(&format!("GET /{id}"), None).await.json()["state"],
        "revoked"
    );
}
