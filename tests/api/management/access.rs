//! The scopes that each call requires, and the roles and scopes that a caller may grant.

use serde_json::{Value, json};
use tower_service_token::lifecycle::NewToken;

use crate::management::{ApiResponse, ManagementResponse, Server};

/// The scope that a call requires.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RequiredScope {
    None,
    Read,
    Write,
}

/// A call with valid and invalid bodies, for each caller.
pub(crate) struct Row {
    pub(crate) call: &'static str,
    required: RequiredScope,
    /// A valid body, and the status of its response.
    good: (&'static str, u16),
    /// An invalid request, with its body and its error.
    bad: &'static [(&'static str, &'static str, u16, &'static str)],
    /// A body that grants more than the caller holds. The token in the path holds more, too.
    foreign: &'static str,
    /// Whether the caller's roles and scopes must cover those of the token.
    grants: bool,
}

const UNKNOWN: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";

pub(crate) const TABLE: [Row; 12] = [
    Row {
        call: "POST ",
        required: RequiredScope::Write,
        good: (r#"{"name":"x"}"#, 201),
        bad: &[
            ("POST ", "{", 400, "invalid_request"),
            ("POST ", r#"{"name":""}"#, 422, "invalid_fields"),
            (
                "POST ",
                r#"{"name":"x","scopes":["db:drop"],"expires_in":"-1d"}"#,
                422,
                "invalid_fields",
            ),
        ],
        foreign: r#"{"name":"x","scopes":["db:drop"]}"#,
        grants: true,
    },
    Row {
        call: "GET ",
        required: RequiredScope::Read,
        good: ("", 200),
        bad: &[
            ("GET ?limit=0", "", 422, "invalid_fields"),
            ("GET ?name=a&name=b", "", 400, "invalid_request"),
        ],
        foreign: "",
        grants: false,
    },
    Row {
        call: "GET /{id}",
        required: RequiredScope::Read,
        good: ("", 200),
        bad: &[
            ("GET /0000000000", "", 404, "not_found"),
            ("GET /%FF", "", 404, "not_found"),
        ],
        foreign: "",
        grants: false,
    },
    Row {
        call: "PATCH /{id}",
        required: RequiredScope::Write,
        good: (r#"{"description":"d"}"#, 200),
        bad: &[
            ("PATCH /{id}", "[]", 400, "invalid_request"),
            ("PATCH /{id}", r#"{"name":null}"#, 422, "invalid_fields"),
            ("PATCH /0000000000", r#"{"name":"x"}"#, 404, "not_found"),
            ("PATCH /%FF", r#"{"name":"x"}"#, 404, "not_found"),
        ],
        foreign: r#"{"scopes":["db:drop"]}"#,
        grants: true,
    },
    Row {
        call: "POST /{id}/rotate",
        required: RequiredScope::Write,
        good: (r#"{"grace":"1h"}"#, 200),
        bad: &[
            ("POST /{id}/rotate", "5", 400, "invalid_request"),
            (
                "POST /{id}/rotate",
                r#"{"grace":"-1h"}"#,
                422,
                "invalid_fields",
            ),
            ("POST /0000000000/rotate", "", 404, "not_found"),
            ("POST /%FF/rotate", "", 404, "not_found"),
        ],
        foreign: "",
        grants: true,
    },
    Row {
        call: "POST /{id}/disable",
        required: RequiredScope::Write,
        good: ("", 200),
        bad: &[
            ("POST /0000000000/disable", "", 404, "not_found"),
            ("POST /%FF/disable", "", 404, "not_found"),
        ],
        foreign: "",
        grants: true,
    },
    Row {
        call: "POST /{id}/enable",
        required: RequiredScope::Write,
        good: ("", 200),
        bad: &[
            ("POST /0000000000/enable", "", 404, "not_found"),
            ("POST /%FF/enable", "", 404, "not_found"),
        ],
        foreign: "",
        grants: true,
    },
    Row {
        call: "DELETE /{id}",
        required: RequiredScope::Write,
        good: ("", 204),
        bad: &[
            ("DELETE /0000000000", "", 404, "not_found"),
            ("DELETE /%FF", "", 404, "not_found"),
        ],
        foreign: "",
        grants: true,
    },
    Row {
        call: "POST /revoke",
        required: RequiredScope::Write,
        good: (r#"{"filter":{"name":"target"}}"#, 200),
        bad: &[
            ("POST /revoke", "{", 400, "invalid_request"),
            ("POST /revoke", r#"{"filter":5}"#, 422, "invalid_fields"),
            (
                "POST /revoke",
                r#"{"filter":{"role":"unknown"},"expect":1}"#,
                409,
                "unexpected_count",
            ),
            (
                "POST /revoke",
                r#"{"filter":{"name":"target"},"expect":7}"#,
                409,
                "unexpected_count",
            ),
        ],
        foreign: r#"{"filter":{"scope":"db:drop"},"dry_run":true}"#,
        grants: false,
    },
    Row {
        call: "GET /self",
        required: RequiredScope::None,
        good: ("", 200),
        bad: &[],
        foreign: "",
        grants: false,
    },
    Row {
        call: "POST /self/rotate",
        required: RequiredScope::None,
        good: ("", 200),
        bad: &[
            ("POST /self/rotate", "null", 400, "invalid_request"),
            ("POST /self/rotate", r#"{"grace":5}"#, 422, "invalid_fields"),
        ],
        foreign: "",
        grants: false,
    },
    Row {
        call: "DELETE /self",
        required: RequiredScope::None,
        good: ("", 204),
        bad: &[],
        foreign: "",
        grants: false,
    },
];

/// The scopes of each caller, and the requirements that they meet.
const CALLERS: [(&[&str], &[RequiredScope]); 7] = [
    (&[], &[RequiredScope::None]),
    (&["other:read", "service-tokens"], &[RequiredScope::None]),
    (
        &["service-tokens:read"],
        &[RequiredScope::None, RequiredScope::Read],
    ),
    (
        &["service-tokens:write"],
        &[RequiredScope::None, RequiredScope::Write],
    ),
    (
        &["service-tokens:read", "service-tokens:write"],
        &[
            RequiredScope::None,
            RequiredScope::Read,
            RequiredScope::Write,
        ],
    ),
    (
        &["service-tokens:admin"],
        &[
            RequiredScope::None,
            RequiredScope::Read,
            RequiredScope::Write,
        ],
    ),
    (
        &["service-tokens:*"],
        &[
            RequiredScope::None,
            RequiredScope::Read,
            RequiredScope::Write,
        ],
    ),
];

/// Creates a server with a target token that holds these scopes. Returns the token's ID, too.
async fn with_target(scopes: &[&str]) -> (Server, String) {
    let server = Server::new().await;
    let target = NewToken::new("target").with_scopes(scopes.to_vec());
    let target = server.tokens.create(target).await.unwrap();
    let id = target.record().id().to_string();
    (server, id)
}

/// Returns the list of all tokens.
async fn list_all(server: &Server) -> Value {
    let mut list = server.call("GET ?limit=1000", None).await.json();
    list["service_tokens"].take()
}

#[tokio::test]
async fn every_call_requires_a_valid_token() {
    for row in &TABLE {
        let (server, id) = with_target(&[]).await;
        let before = list_all(&server).await;
        let good = (row.call, row.good.0);
        let bad = row.bad.iter().map(|(call, body, ..)| (*call, *body));
        for (call, body) in [good].into_iter().chain(bad) {
            let call = call.replace("{id}", &id);
            for token in [None, Some(UNKNOWN)] {
                let response = server.call_text(token, &call, body).await;
                let code = token.map_or("missing_token", |_| "invalid_token");
                response.assert_error(401, code);
                assert!(response.header("www-authenticate").is_some());
            }
        }
        assert_eq!(list_all(&server).await, before, "{}", row.call);
    }
}

#[tokio::test]
async fn every_call_checks_its_scope_before_its_input() {
    for row in &TABLE {
        for (scopes, holds) in CALLERS {
            let (server, id) = with_target(&[]).await;
            let caller = server.holder(scopes).await;
            let caller = Some(caller.expose_secret());
            let is_allowed = holds.contains(&row.required);
            let before = list_all(&server).await;
            for (call, body, status, code) in row.bad {
                let call = call.replace("{id}", &id);
                let response = server.call_text(caller, &call, body).await;
                let (status, code) = if is_allowed {
                    (*status, *code)
                } else {
                    (403, "insufficient_scope")
                };
                response.assert_error(status, code);
            }
            assert_eq!(list_all(&server).await, before, "{} {scopes:?}", row.call);
            let call = row.call.replace("{id}", &id);
            let response = server.call_text(caller, &call, row.good.0).await;
            if is_allowed {
                assert_eq!(
                    response.status, row.good.1,
                    "{call} {scopes:?}: {response:?}"
                );
            } else {
                response.assert_error(403, "insufficient_scope");
                assert_eq!(list_all(&server).await, before, "{call} {scopes:?}");
            }
        }
    }
}

#[tokio::test]
async fn rejects_changes_beyond_the_callers_rights() {
    for row in &TABLE {
        let (server, id) = with_target(&["db:drop"]).await;
        let scopes = ["service-tokens:read", "service-tokens:write", "db:read"];
        let caller = server.holder(&scopes).await;
        let before = list_all(&server).await;
        let call = row.call.replace("{id}", &id);
        let send_as = async |token: &str| -> ApiResponse {
            server.call_text(Some(token), &call, row.foreign).await
        };
        let response = send_as(caller.expose_secret()).await;
        if row.grants {
            let problem = response.assert_error(403, "escalation_denied");
            assert_eq!(problem["missing"], json!(["db:drop"]), "{call}");
            assert!(!response.body.contains("svctok-"), "{response:?}");
            assert_eq!(list_all(&server).await, before, "{call}");
            // An administrator may grant anything.
            let response = send_as(server.admin.expose_secret()).await;
            assert_eq!(response.status, row.good.1, "{call}: {response:?}");
        } else {
            assert_eq!(response.status, row.good.1, "{call}: {response:?}");
        }
    }
}

#[tokio::test]
async fn rejects_escalation_on_every_path() {
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
        (
            (format!("POST /{strong}/disable"), json!({})),
            &["admin", "db:drop"],
        ),
        (
            (format!("DELETE /{strong}"), json!({})),
            &["admin", "db:drop"],
        ),
        (
            (format!("PATCH /{strong}"), json!({ "name": "renamed" })),
            &["admin", "db:drop"],
        ),
    ] {
        let response = server.call_as(token, &call, Some(&body)).await;
        let problem = response.assert_error(403, "escalation_denied");
        assert_eq!(problem["missing"], json!(missing), "{call} {body}");
        assert!(!response.body.contains("svctok-"), "{response:?}");
    }
    // A caller may grant what it holds, and an administrator may grant anything.
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
        json!(format!("token:{}", server.admin.record().id()))
    );
}

#[tokio::test]
async fn calls_on_the_own_token_require_no_scope() {
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
