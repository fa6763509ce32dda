//! Listing and bulk revocation.

use serde_json::{Value, json};

use crate::management::{ManagementResponse, Server};

fn names(list: &Value) -> Vec<String> {
    let tokens = list["service_tokens"].as_array().unwrap().iter();
    let name = |token: &Value| token["name"].as_str().unwrap().to_owned();
    tokens.map(name).collect()
}

async fn with_three_tokens() -> Server {
    let server = Server::new().await;
    for body in [
        json!({ "name": "a", "roles": ["r"], "labels": { "team": "x" } }),
        json!({ "name": "b", "roles": ["r", "q"], "scopes": ["s:t"], "expires_in": "1d" }),
        json!({ "name": "c", "subject": "alice", "expires_in": "9d", "labels": { "team": "y" } }),
    ] {
        server.create(body).await;
    }
    server
}

#[tokio::test]
async fn filters_lists_by_query() {
    let server = with_three_tokens().await;
    for (query, expected) in [
        ("", &["admin", "a", "b", "c"][..]),
        ("?name=a", &["a"]),
        ("?role=r", &["a", "b"]),
        ("?scope=s:t", &["b"]),
        ("?subject=alice", &["c"]),
        ("?label=team%3Dx", &["a"]),
        ("?label=team=y", &["c"]),
        ("?state=active&role=r", &["a", "b"]),
        ("?state=revoked", &[]),
        ("?expires_before=2027-01-20T00:00:00Z", &["b"]),
        ("?name=unknown", &[]),
    ] {
        let response = server.call(&format!("GET {query}"), None).await;
        assert_eq!(response.status, 200, "{query}: {response:?}");
        let mut found = names(&response.json());
        found.sort();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected, "{query}");
    }
}

#[tokio::test]
async fn returns_every_page_once() {
    let server = with_three_tokens().await;
    let (mut query, mut found, mut pages) = ("?limit=3".to_owned(), Vec::new(), 0);
    loop {
        let list = server.call(&format!("GET {query}"), None).await.json();
        found.extend(names(&list));
        pages += 1;
        let Some(cursor) = list["next_cursor"].as_str() else {
            assert!(list["next_cursor"].is_null());
            break;
        };
        query = format!("?limit=3&cursor={cursor}");
    }
    found.sort();
    assert_eq!(
        (pages, found),
        (2, ["a", "admin", "b", "c"].map(Into::into).to_vec())
    );
}

#[tokio::test]
async fn rejects_invalid_queries() {
    let server = with_three_tokens().await;
    for (query, pointer) in [
        ("?limit=0", "/limit"),
        ("?limit=1001", "/limit"),
        ("?limit=many", "/limit"),
        ("?cursor=x", "/cursor"),
        ("?state=gone", "/state"),
        ("?label=team", "/label"),
        ("?expires_before=soon", "/expires_before"),
        ("?colour=red", "/colour"),
    ] {
        let response = server.call(&format!("GET {query}"), None).await;
        assert_eq!(response.pointers(), [pointer], "{query}");
    }
    let twice = server.call("GET ?name=a&name=b", None).await;
    twice.assert_error(400, "invalid_request");
}

#[tokio::test]
async fn bulk_revocation_checks_the_expected_number() {
    let server = with_three_tokens().await;
    let states = async || {
        let list = server.call("GET ?state=revoked", None).await.json();
        let mut names = names(&list);
        // Tokens that are created at the same time are ordered by their random IDs.
        names.sort();
        names
    };
    let by_role = json!({ "role": "r" });
    let dry_run = json!({ "filter": by_role, "dry_run": true, "expect": 2.0 });
    let response = server.call("POST /revoke", dry_run).await.json();
    assert_eq!(response["dry_run"], true);
    assert_eq!(response["count"], 2);
    assert_eq!(response["sample"].as_array().unwrap().len(), 2);
    assert_eq!(response["ends_administration"], false);
    let all = server
        .call("POST /revoke", json!({ "dry_run": true }))
        .await;
    assert_eq!(all.json()["ends_administration"], true);
    for (body, expected, found) in [
        (json!({ "filter": by_role, "expect": 3 }), json!(3), 2),
        (
            json!({ "filter": by_role, "expect": 3, "dry_run": true }),
            json!(3),
            2,
        ),
        (json!({ "filter": {} }), Value::Null, 4),
        (json!({}), Value::Null, 4),
    ] {
        let response = server.call("POST /revoke", body).await;
        let problem = response.assert_error(409, "unexpected_count");
        let counts = (problem.get("expected"), &problem["found"]);
        assert_eq!(counts, (Some(&expected), &json!(found)));
    }
    assert!(states().await.is_empty());
    let response = server
        .call("POST /revoke", json!({ "filter": by_role, "expect": 2 }))
        .await;
    assert_eq!(response.header("service-token-effective-within"), Some("0"));
    let body = response.json();
    assert_eq!(body["dry_run"], false);
    assert_eq!(
        (&body["revoked"], &body["remaining"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(states().await, ["a", "b"]);
}
