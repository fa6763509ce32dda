//! The management API responds to bad input in the same way on memory, SQLite and PostgreSQL.

use std::sync::Arc;

use axum::Router;
use serde_json::{Value, json};
use tests::api_fixture::{ApiFixture, ApiResponse};
use tower_service_token::MemoryStore;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::registry::TokenRegistry;

use crate::database::TestDatabase;

/// The API of one store, with a token to change.
struct Api {
    app: Router,
    admin: String,
    id: String,
}

/// A response without the values that differ between two stores.
#[derive(Debug, PartialEq)]
struct ComparableResponse {
    status: u16,
    content_type: Option<String>,
    body: Value,
}

impl Api {
    async fn new(store: Arc<dyn TokenRegistry>) -> Self {
        let managed = ApiFixture::new(MemoryStore::new(), store).await;
        let api = ManagementApi::new(managed.tokens.clone(), managed.layer.clone());
        let mut api = Self {
            app: api.into_router(),
            admin: managed.admin.expose_secret().to_owned(),
            id: String::new(),
        };
        let body = json!({ "name": "target", "roles": ["r"], "labels": { "k": "v" } });
        let created = api.send("POST ", &body.to_string()).await.json();
        created["service_token"]["id"]
            .as_str()
            .unwrap()
            .clone_into(&mut api.id);
        api
    }

    async fn send(&self, request: &str, body: &str) -> ApiResponse {
        let (method, path) = request.split_once(' ').unwrap();
        let request = format!("{method} /service-tokens{path}").replace("{id}", &self.id);
        let headers = |request: http::request::Builder| {
            let request = request.header("x-api-key", &self.admin);
            if body.is_empty() {
                request
            } else {
                request.header("content-type", "application/json")
            }
        };
        ApiResponse::send(&self.app, &request, headers, body).await
    }

    async fn comparable_response(&self, request: &str, body: &str) -> ComparableResponse {
        let response = self.send(request, body).await;
        let content_type = response.headers.get("content-type");
        let content_type = content_type.map(|it| it.to_str().unwrap().to_owned());
        let body = response.body.replace(&self.id, "ID");
        let mut body = serde_json::from_str(&body).unwrap_or(Value::Null);
        for pointer in ["", "/service_token", "/service_tokens/0"] {
            if let Some(Value::Object(fields)) = body.pointer_mut(pointer) {
                for field in ["id", "hint", "token", "created_by", "next_cursor"] {
                    fields.remove(field);
                }
            }
        }
        ComparableResponse {
            status: response.status,
            content_type,
            body,
        }
    }
}

/// Returns texts that some database rejects, changes or compares differently.
fn texts() -> Vec<String> {
    let mut texts: Vec<_> = [
        "",
        " ",
        " x",
        "x ",
        "\0",
        "a\0b",
        "\u{1}",
        "\n",
        "\t",
        "\r\n",
        "\u{7f}",
        "\u{85}",
        "\u{ad}",
        "\u{200b}",
        "\u{200c}",
        "\u{200d}",
        "\u{202e}",
        "\u{2066}",
        "\u{2028}",
        "\u{feff}",
        "\u{fffd}",
        "\u{ffff}",
        "\u{10ffff}",
        "\u{e000}",
        "\u{e0041}",
        "e\u{301}",
        "\u{e9}",
        "I\u{307}",
        "ß",
        "Target",
        "TARGET",
        "'",
        "\"",
        "\\",
        "\\u0000",
        "%",
        "_",
        "$1",
        "{}",
        "[]",
        "null",
        "1",
        "1e400",
        "-0",
        "NaN",
        "--",
        "/*",
        ";",
        "=",
        "a=b",
        "x' OR '1'='1",
        "\u{a0}",
        "\u{3000}",
    ]
    .map(str::to_owned)
    .into();
    texts.extend([100, 101, 200, 201, 2000, 2001].map(|length| "x".repeat(length)));
    texts.extend([200, 201].map(|length| "\u{1f980}".repeat(length)));
    texts
}

fn times() -> [&'static str; 22] {
    [
        "",
        "soon",
        "now",
        "0",
        "-1",
        "1800000000",
        "2027-02-30",
        "2027-02-29",
        "2028-02-29",
        "2027-13-01",
        "2199-12-31",
        "9999-12-30",
        "9999-12-31",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:60Z",
        "10000-01-01",
        "+292278994-08-17T07:12:55Z",
        "-0001-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999Z",
        "2199-01-01T00:00:00.000000001Z",
        "2199-01-01T00:00:00+23:59",
    ]
}

/// Returns creation bodies, most of them invalid.
fn bodies() -> Vec<Value> {
    let mut bodies = Vec::new();
    for text in texts() {
        bodies.extend([
            json!({ "name": text }),
            json!({ "name": "x", "description": text }),
            json!({ "name": "x", "subject": text }),
            json!({ "name": "x", "owner": text }),
            json!({ "name": "x", "roles": [text] }),
            json!({ "name": "x", "roles": ["a", text, "b"] }),
            json!({ "name": "x", "scopes": [text] }),
            json!({ "name": "x", "labels": { &*text: "v" } }),
            json!({ "name": "x", "labels": { "k": text } }),
        ]);
    }
    for time in times() {
        for field in ["expires_at", "not_before", "expires_in"] {
            let mut body = json!({ "name": "x" });
            body[field] = json!(time);
            bodies.push(body);
        }
    }
    for duration in [
        "0d",
        "-1d",
        "30d",
        "9000y",
        "99999y",
        "P1Y2M",
        "1e9d",
        "9223372036854775807d",
    ] {
        bodies.push(json!({ "name": "x", "expires_in": duration }));
    }
    let many = |count: usize| (0..count).map(|it| format!("n{it}")).collect::<Vec<_>>();
    for count in [50, 51, 100, 101] {
        let labels = many(count).into_iter().map(|key| (key, json!("v")));
        bodies.extend([
            json!({ "name": "x", "roles": many(count) }),
            json!({ "name": "x", "scopes": many(count) }),
            json!({ "name": "x", "labels": labels.collect::<serde_json::Map<_, _>>() }),
        ]);
    }
    bodies.extend([
        json!({}),
        json!([]),
        json!(null),
        json!({ "name": null }),
        json!({ "name": 5 }),
        json!({ "name": "x", "roles": null, "scopes": null, "labels": null }),
        json!({ "name": "x", "roles": "r" }),
        json!({ "name": "x", "roles": [null] }),
        json!({ "name": "x", "roles": ["r", "r"] }),
        json!({ "name": "x", "state": "active" }),
        json!({ "name": "x", "expires_at": "2199-12-31", "not_before": "2199-12-31T00:00:00Z" }),
        json!({ "name": "x", "expires_at": "2199-12-31", "not_before": "2200-01-01T00:00:00Z" }),
        json!({ "name": "x", "expires_at": 253_402_300_800_000_i64 }),
    ]);
    bodies
}

/// Returns requests with queries and other bodies.
fn other_requests() -> Vec<(String, String)> {
    let mut requests = Vec::new();
    for text in texts() {
        let text: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        for filter in [
            "name", "role", "scope", "subject", "owner", "label", "state",
        ] {
            requests.push((format!("GET ?{filter}={text}"), String::new()));
        }
        requests.push((format!("GET ?label=k%3D{text}"), String::new()));
        requests.push((format!("GET ?label={text}%3Dv"), String::new()));
        requests.push((format!("GET ?cursor={text}"), String::new()));
        requests.push((format!("GET ?limit={text}"), String::new()));
        requests.push((format!("GET ?number={text}"), String::new()));
        requests.push((format!("GET /{text}"), String::new()));
        requests.push((format!("DELETE /{text}"), String::new()));
    }
    for time in times() {
        let time: String = form_urlencoded::byte_serialize(time.as_bytes()).collect();
        for filter in ["expires_before", "last_used_before"] {
            requests.push((format!("GET ?{filter}={time}"), String::new()));
        }
    }
    for filter in bodies() {
        let body = json!({ "dry_run": true, "filter": filter });
        requests.push(("POST /revoke".to_owned(), body.to_string()));
    }
    for grace in [
        "",
        "0s",
        "-1s",
        "1mo",
        "9000y",
        "99999999w",
        "\0",
        "P1D",
        "PT9999999999999S",
    ] {
        let body = json!({ "grace": grace }).to_string();
        requests.push(("POST /{id}/rotate".to_owned(), body));
    }
    for body in [
        "",
        "{",
        "{\"name\":\"\\ud800\"}",
        "{\"name\":\"a\",\"name\":\"b\"}",
        "\u{feff}{}",
    ] {
        for request in ["POST ", "PATCH /{id}", "POST /revoke"] {
            requests.push((request.to_owned(), body.to_owned()));
        }
    }
    requests
}

pub(crate) async fn bad_inputs_get_the_same_response_as_in_memory(database: TestDatabase) {
    let memory = Api::new(Arc::new(MemoryStore::new())).await;
    let stored = Api::new(database.registry().await).await;
    let mut requests = other_requests();
    for body in bodies() {
        for request in ["POST ", "PATCH /{id}"] {
            requests.push((request.to_owned(), body.to_string()));
        }
    }
    let mut rejected = 0;
    for (request, body) in requests {
        let expected = memory.comparable_response(&request, &body).await;
        let found = stored.comparable_response(&request, &body).await;
        assert_eq!(found, expected, "{request} {body}");
        assert!(expected.status < 500, "{request} {body}: {expected:?}");
        rejected += usize::from(expected.status >= 400);
    }
    assert!(rejected > 500, "{rejected}");
    // Both tokens have the same fields afterwards.
    let stored_token = stored.comparable_response("GET /{id}", "").await;
    assert_eq!(
        stored_token,
        memory.comparable_response("GET /{id}", "").await
    );
}
