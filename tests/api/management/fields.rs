//! Invalid input gets an error that names the field, and changes nothing.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::management::{ApiResponse, ManagementResponse, Server};

async fn post(server: &Server, content_type: Option<&str>, body: impl Into<Body>) -> ApiResponse {
    let mut request = Request::post("/api/service-tokens");
    request = request.header("x-api-key", server.admin.expose_secret());
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    server.send(request.body(body.into()).unwrap()).await
}

async fn count(server: &Server) -> usize {
    let list = server.call("GET ?limit=1000", None).await.json();
    list["service_tokens"].as_array().unwrap().len()
}

#[tokio::test]
async fn rejects_other_media_types_and_large_bodies() {
    let server = Server::new().await;
    let before = count(&server).await;
    let good = r#"{"name":"x"}"#;
    for bad in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some(""),
    ] {
        let response = post(&server, bad, good).await;
        response.assert_error(415, "unsupported_media_type");
    }
    for bad in [
        "",
        "{",
        "[]",
        "null",
        r#"{"name":hush}"#,
        r#"{"name":"x"} {}"#,
    ] {
        let response = post(&server, Some("application/json"), bad).await;
        response.assert_error(400, "invalid_request");
        assert!(!response.body.contains("hush"), "{response:?}");
    }
    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(64 * 1024));
    let response = post(&server, Some("application/json"), large).await;
    response.assert_error(413, "too_large");
    assert_eq!(count(&server).await, before);
    let response = post(&server, Some("Application/JSON; charset=utf-8"), good).await;
    assert_eq!(response.status, 201);
}

#[tokio::test]
async fn names_each_field_that_breaks_a_rule() {
    let server = Server::new().await;
    let before = count(&server).await;
    let mut cases = vec![
        (json!({}), vec!["/name"]),
        (json!({ "name": null }), vec!["/name"]),
        (json!({ "name": "" }), vec!["/name"]),
    ];
    for (field, bad) in [
        ("name", json!(5)),
        ("description", json!([])),
        ("subject", json!({})),
        ("owner", json!(5)),
        ("roles", json!("r")),
        ("roles", json!(["r", 5])),
        ("scopes", json!([null])),
        ("labels", json!(["a"])),
        ("labels", json!({ "a": 5 })),
        ("not_before", json!("soon")),
        ("expires_at", json!("2027-02-30")),
        ("expires_at", json!("2020-01-01")),
        ("expires_at", json!(1_800_000_000)),
        ("expires_in", json!("-1d")),
        ("expires_in", json!("some time")),
        ("token", json!("svctok-mine")),
        ("id", json!("7Hq2mX9bTe")),
        ("state", json!("revoked")),
        ("Roles", json!(["r"])),
    ] {
        let mut body = json!({ "name": "x" });
        body[field] = bad;
        cases.push((body, vec![]));
    }
    for (body, expected) in cases {
        let response = server.call("POST ", body.clone()).await;
        let reported = response.pointers();
        let field = body.as_object().unwrap().keys().find(|key| *key != "name");
        let field = field.map_or("/name".to_owned(), |field| format!("/{field}"));
        let is_named = reported.iter().any(|it| it.starts_with(&field));
        assert!(is_named, "{body}: {reported:?}");
        assert!(
            expected
                .iter()
                .all(|it| reported.contains(&(*it).to_owned())),
            "{body}"
        );
        assert!(!response.body.contains("svctok-mine"), "{response:?}");
    }
    assert_eq!(count(&server).await, before);
}

#[tokio::test]
async fn points_to_the_first_unknown_member_or_wrong_type() {
    let server = Server::new().await;
    let body = json!({ "roles": 5, "a/b~c": 1, "expires_at": "2027-02-01", "expires_in": "1d" });
    let pointers = server.call("POST ", body).await.pointers();
    assert_eq!(pointers, ["/a~1b~0c"]);
}

#[tokio::test]
async fn points_to_every_broken_rule() {
    let server = Server::new().await;
    for (body, expected) in [
        (
            json!({
                "name": "x", "not_before": "soon", "expires_at": "2027-02-01", "expires_in": "1d",
            }),
            &["/expires_in", "/not_before"][..],
        ),
        (
            json!({ "name": "", "roles": ["r", ""], "scopes": ["a b"], "subject": " x" }),
            &["/name", "/roles/1", "/scopes/0", "/subject"],
        ),
    ] {
        let mut pointers = server.call("POST ", body.clone()).await.pointers();
        pointers.sort();
        assert_eq!(pointers, expected, "{body}");
    }
}

/// A second member `"scopes"` must not create an administrator.
#[tokio::test]
async fn rejects_repeated_members() {
    let server = Server::new().await;
    let (id, _) = server.create(json!({ "name": "ci" })).await;
    let before = count(&server).await;
    let admin = server.admin.expose_secret();
    for (call, body, pointer) in [
        (
            "POST ",
            r#"{"name":"x","scopes":[],"scopes":["service-tokens:admin"]}"#,
            "/scopes",
        ),
        (
            "POST ",
            r#"{"name":"x","scopes":[],"scop\u0065s":["service-tokens:admin"]}"#,
            "/scopes",
        ),
        (
            "POST ",
            r#"{"name":"x","labels":{"a":"1","a":"2"}}"#,
            "/labels/a",
        ),
        ("PATCH /{id}", r#"{"name":"x","name":"y"}"#, "/name"),
        (
            "PATCH /{id}",
            r#"{"labels":{"a":null,"a":"1"}}"#,
            "/labels/a",
        ),
        (
            "POST /{id}/rotate",
            r#"{"grace":"1h","grace":"9h"}"#,
            "/grace",
        ),
        (
            "POST /revoke",
            r#"{"filter":{"name":"x","name":"ci"},"expect":1}"#,
            "/filter/name",
        ),
        (
            "POST /revoke",
            r#"{"filter":{"name":"ci"},"filter":{},"expect":1}"#,
            "/filter",
        ),
    ] {
        let call = call.replace("{id}", &id);
        let response = server.call_text(Some(admin), &call, body).await;
        let problem = response.assert_error(400, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    let listed = server.call("GET ?name=x&name=y", None).await;
    listed.assert_error(400, "invalid_request");
    assert_eq!(count(&server).await, before);
    let token = server.call(&format!("GET /{id}"), None).await.json();
    assert_eq!(
        (&token["name"], &token["state"]),
        (&json!("ci"), &json!("active"))
    );
}

/// Other APIs use other names for an expiry. If the member were ignored, the token would never
/// expire.
#[tokio::test]
async fn rejects_expiry_names_of_other_apis() {
    let server = Server::new().await;
    for name in [
        "expiration",
        "expiryDate",
        "expires",
        "expiresAt",
        "grace_ends_at",
    ] {
        let body = json!({ "name": "x", name: "2027-02-01" });
        let pointers = server.call("POST ", body).await.pointers();
        assert_eq!(pointers, [format!("/{name}")]);
    }
}

#[tokio::test]
async fn updates_and_rotations_reject_invalid_fields() {
    let server = Server::new().await;
    let (id, secret) = server.create(json!({ "name": "ci" })).await;
    for (call, bad, pointer) in [
        ("PATCH /{id}", json!({ "name": null }), "/name"),
        ("PATCH /{id}", json!({ "labels": { "a": 5 } }), "/labels/a"),
        ("PATCH /{id}", json!({ "state": "disabled" }), "/state"),
        (
            "PATCH /{id}",
            json!({ "expires_at": "2020-01-01" }),
            "/expires_at",
        ),
        ("POST /{id}/rotate", json!({ "grace": "-1h" }), "/grace"),
        ("POST /{id}/rotate", json!({ "grace": 60 }), "/grace"),
        ("POST /{id}/rotate", json!({ "grace": "1mo" }), "/grace"),
        ("POST /{id}/rotate", json!({ "graze": "1h" }), "/graze"),
        (
            "POST /revoke",
            json!({ "filter": { "nmae": "x" } }),
            "/filter/nmae",
        ),
        (
            "POST /revoke",
            json!({ "filter": { "state": "gone" } }),
            "/filter/state",
        ),
        ("POST /revoke", json!({ "filter": 5 }), "/filter"),
        (
            "POST /revoke",
            json!({ "filter": { "name": "x" }, "expect": -1 }),
            "/expect",
        ),
        (
            "POST /revoke",
            json!({ "filter": { "name": "x" }, "expect": 0.5 }),
            "/expect",
        ),
        (
            "PATCH /{id}",
            json!({ "expires_at": null, "expires_in": "1d" }),
            "/expires_in",
        ),
        (
            "POST /revoke",
            json!({ "filter": { "name": "x" }, "dry_run": "no" }),
            "/dry_run",
        ),
    ] {
        let before = server.call(&format!("GET /{id}"), None).await.json();
        let response = server.call(&call.replace("{id}", &id), bad.clone()).await;
        assert_eq!(response.pointers(), [pointer], "{call} {bad}");
        let after: Value = server.call(&format!("GET /{id}"), None).await.json();
        assert_eq!(before, after);
    }
    assert_eq!(
        server
            .call_as(Some(&secret), "GET /self", None)
            .await
            .status,
        200
    );
}
