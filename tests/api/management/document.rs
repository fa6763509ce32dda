//! The OpenAPI document, compared with every response.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use tower::ServiceExt;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::header::{CredentialSources, TokenHeader};
use tower_service_token::token::TokenId;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

use crate::management::access::TABLE;
use crate::management::{ApiResponse, ManagementResponse, Server};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let store = MemoryStore::new();
    let layer = ServiceTokenLayer::new(store.clone()).accept_bearer();
    let api = ManagementApi::new(ServiceTokens::new(store), layer);
    serde_json::to_value(api.openapi()).unwrap()
});

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// Asserts that the document describes this response.
#[track_caller]
pub(crate) fn assert_documented((method, path): &(Method, String), response: &ApiResponse) {
    let path = path.strip_prefix("/api").expect("below the prefix");
    let operation = operation(&method.as_str().to_lowercase(), path);
    let operation = operation.unwrap_or_else(|| panic!("{method} {path} is not in the document"));
    let problems = problems(operation, response);
    assert!(
        problems.is_empty(),
        "{method} {path}: {problems:#?}\n{response:?}"
    );
}

/// Returns the operation that describes a call. A literal path takes precedence over a template.
fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let is_template_of = |template: &str| {
        let (template, path) = (template.split('/'), path.split('/'));
        template.clone().count() == path.clone().count()
            && template
                .zip(path)
                .all(|(a, b)| a == b || a.starts_with('{'))
    };
    let item = paths.get(path).or_else(|| {
        let mut templates = paths
            .iter()
            .filter(|(template, _)| is_template_of(template));
        templates.next().map(|(_, item)| item)
    });
    item?.get(method)
}

fn resolve(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(pointer) => DOCUMENT
            .pointer(pointer.strip_prefix('#').unwrap())
            .unwrap(),
        None => value,
    }
}

/// Returns the differences between a response and its description.
fn problems(operation: &'static Value, response: &ApiResponse) -> Vec<String> {
    let Some(documented) = operation["responses"].get(response.status.to_string()) else {
        return vec![format!("no status {}", response.status)];
    };
    let documented = resolve(documented);
    let mut problems = Vec::new();
    for (name, header) in documented["headers"].as_object().unwrap_or(&Map::new()) {
        // Error responses need not have every documented header.
        let Some(value) = response.header(name) else {
            // A dry run changes nothing, so it has no header about a change.
            let is_dry_run = response.body.contains(r#""dry_run":true"#);
            // A rotation that repeats no earlier one returns a secret.
            let is_first = name == "Idempotency-Replayed" && response.json()["token"].is_string();
            if response.status < 300 && !is_dry_run && !is_first {
                problems.push(format!("no header {name}"));
            }
            continue;
        };
        let value = match &header["schema"]["type"] {
            Value::String(kind) if kind == "integer" => value.parse().unwrap_or(Value::Null),
            _ => json!(value),
        };
        problems.extend(mismatches(&header["schema"], &value));
    }
    for name in ["ETag", "Idempotency-Replayed", "Location"] {
        let is_sent = response.status < 300 && response.header(name).is_some();
        if is_sent && documented["headers"].get(name).is_none() {
            problems.push(format!("undocumented header {name}"));
        }
    }
    let contents = documented["content"].as_object();
    match (response.header("content-type"), contents) {
        (None, None) if response.body.is_empty() => {}
        (Some(kind), Some(contents)) if contents.contains_key(kind) => {
            problems.extend(mismatches(&contents[kind]["schema"], &response.json()));
        }
        (kind, _) => problems.push(format!("content type {kind:?}")),
    }
    problems
}

/// Returns the differences between a value and a schema of the document.
fn mismatches(schema: &Value, value: &Value) -> Vec<String> {
    let schema = json!({ "components": DOCUMENT["components"], "allOf": [schema] });
    let validator = jsonschema::draft202012::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap();
    let errors = validator.iter_errors(value);
    errors.map(|error| error.to_string()).collect()
}

/// Returns each method and path of the document.
fn documented() -> BTreeSet<String> {
    let paths = DOCUMENT["paths"].as_object().unwrap().iter();
    let calls = paths.flat_map(|(path, item)| {
        let methods = METHODS.iter().filter(|method| item.get(method).is_some());
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    calls.collect()
}

#[test]
fn detects_undocumented_responses() {
    let operation = operation("get", "/service-tokens/7Hq2mX9bTe").unwrap();
    let response = |status, kind: &str, body: &Value| {
        let headers = [("content-type", kind), ("etag", "\"1\"")];
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let (headers, body) = (headers.into_iter().collect(), body.to_string());
        ApiResponse {
            status,
            headers,
            body,
        }
    };
    let problem = json!({
        "type": "about:blank", "title": "Not Found", "status": 404, "detail": "", "code": "x",
    });
    let kind = "application/problem+json";
    assert_eq!(problems(operation, &response(404, kind, &problem)), [""; 0]);
    let without_code = json!({ "type": "about:blank", "title": "", "status": 404, "detail": "" });
    for wrong in [
        response(418, kind, &problem),
        response(404, "application/json", &problem),
        response(404, kind, &without_code),
        response(200, "application/json", &json!({ "id": "x" })),
    ] {
        assert_ne!(problems(operation, &wrong), [""; 0], "{wrong:?}");
    }
    let mut without_headers = response(404, kind, &problem);
    without_headers.headers.clear();
    assert_ne!(problems(operation, &without_headers), [""; 0]);
}

#[test]
fn document_is_valid_openapi_3_1() {
    assert_eq!(DOCUMENT["openapi"], "3.1.0");
    let text = DOCUMENT.to_string();
    let mut references = 0;
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(DOCUMENT.pointer(pointer).is_some(), "{pointer}");
        references += 1;
    }
    assert!(references > 100, "{references}");
    for (name, schema) in DOCUMENT["components"]["schemas"].as_object().unwrap() {
        jsonschema::draft202012::meta::validate(schema).unwrap_or_else(|error| {
            panic!("{name}: {error}");
        });
    }
    for kind in ["schemas", "responses"] {
        for name in DOCUMENT["components"][kind].as_object().unwrap().keys() {
            assert!(name.starts_with("ServiceToken"), "{name} may collide");
        }
    }
    let mut names = BTreeSet::new();
    for call in documented() {
        let (method, path) = call.split_once(' ').unwrap();
        let operation = operation(&method.to_lowercase(), path).unwrap();
        assert!(
            names.insert(operation["operationId"].as_str().unwrap()),
            "{call}"
        );
        for requirement in operation["security"].as_array().unwrap() {
            for scheme in requirement.as_object().unwrap().keys() {
                let schemes = &DOCUMENT["components"]["securitySchemes"];
                assert!(schemes.get(scheme).is_some(), "{scheme}");
            }
        }
    }
}

#[tokio::test]
async fn documents_every_operation_and_no_others() {
    let calls = TABLE.iter().map(|row| {
        let (method, path) = row.call.split_once(' ').unwrap();
        format!("{method} /service-tokens{path}")
    });
    let mut calls: BTreeSet<String> = calls.collect();
    calls.insert("GET /openapi.json".to_owned());
    assert_eq!(documented(), calls);

    for path in DOCUMENT["paths"].as_object().unwrap().keys() {
        for method in METHODS.map(str::to_uppercase) {
            let server = Server::new().await;
            let request = Request::builder()
                .method(&*method)
                .uri(format!("/api{}", path.replace("{id}", "7Hq2mX9bTe")))
                .header("x-api-key", server.admin.expose_secret());
            let request = request.body(Body::empty()).unwrap();
            let response = server.app.clone().oneshot(request).await.unwrap();
            let call = format!("{method} {path}");
            let status = response.status();
            assert_eq!(status != 405, calls.contains(&call), "{call}: {status}");
            let has_content_type = response.headers().contains_key("content-type");
            assert!(status != 404 || has_content_type, "{call} has no route");
            if status == 405 {
                assert!(response.headers().contains_key("allow"), "{call}");
                let content_type = &response.headers()["content-type"];
                assert_eq!(content_type, "application/problem+json", "{call}");
            }
        }
    }
}

#[tokio::test]
async fn documents_the_scope_of_each_operation() {
    for call in TABLE.map(|row| row.call) {
        let (method, path) = call.split_once(' ').unwrap();
        let path = format!("/service-tokens{path}");
        let operation = operation(&method.to_lowercase(), &path).unwrap();
        let scopes = match (method, path.contains("/self")) {
            (_, true) => json!([]),
            ("GET", _) => json!(["service-tokens:read"]),
            _ => json!(["service-tokens:write"]),
        };
        let schemes = ["serviceToken", "serviceTokenHeader", "serviceTokenBearer"];
        let expected = schemes.map(|scheme| json!({ scheme: scopes }));
        assert_eq!(operation["security"], json!(expected), "{call}");
    }
    let open = operation("get", "/openapi.json").unwrap();
    assert_eq!(open["security"], json!([{}]));
}

#[test]
fn documents_the_conditions_of_changes() {
    for call in TABLE.map(|row| row.call) {
        let (method, path) = call.split_once(' ').unwrap();
        let operation = operation(&method.to_lowercase(), &format!("/service-tokens{path}"));
        let operation = operation.unwrap();
        let has_parameter = |location: &str, name: &str| {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let mut parameters = parameters.filter(|it| it["in"] == location && it["name"] == name);
            parameters.next().is_some()
        };
        let has_status = |status: &str| operation["responses"].get(status).is_some();
        let changes_one_token = method != "GET" && !["", "/revoke"].contains(&path);
        assert_eq!(
            has_parameter("header", "If-Match"),
            changes_one_token,
            "{call}"
        );
        // The list has no entity tag, so a condition on it fails.
        assert_eq!(has_status("412"), method != "GET", "{call}");
        let issues_secret = call == "POST " || path.ends_with("/rotate");
        assert_eq!(
            has_parameter("header", "Idempotency-Key"),
            issues_secret,
            "{call}"
        );
        let may_remove_last_admin =
            ["PATCH", "DELETE"].contains(&method) || path.ends_with("/disable");
        assert_eq!(
            has_parameter("query", "last_admin"),
            may_remove_last_admin,
            "{call}"
        );
        assert_eq!(has_status("428"), path.ends_with("/rotate"), "{call}");
        assert_eq!(has_status("409"), method != "GET", "{call}");
    }
}

#[test]
fn dry_run_distinguishes_bulk_responses() {
    let operation = operation("post", "/service-tokens/revoke").unwrap();
    let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
    let ids = json!(["7Hq2mX9bTe"]);
    let revoked = json!({ "dry_run": false, "ids": ids, "revoked": 1, "remaining": 2 });
    let preview = json!({
        "dry_run": true, "count": 1, "sample": ids, "forbidden": 0, "needs_expect": false,
        "ends_administration": false,
    });
    for body in [&revoked, &preview] {
        assert_eq!(mismatches(schema, body), [""; 0]);
        let mut other = body.clone();
        other["dry_run"] = json!(!body["dry_run"].as_bool().unwrap());
        assert_ne!(mismatches(schema, &other), [""; 0], "{other}");
    }
}

#[test]
fn describes_lifetimes_that_depend_on_the_caller() {
    let description = |schema: &str, field: &str| {
        let field = &DOCUMENT["components"]["schemas"][schema]["properties"][field];
        field["description"].as_str().unwrap()
    };
    let default = "If the caller's token expires and lacks the scope `service-tokens:admin`, the \
                   default is its expiry; `null` and later expiries are refused";
    for field in ["expires_at", "expires_in"] {
        assert!(description("ServiceTokenCreateRequest", field).contains(default));
        assert!(!description("ServiceTokenUpdateRequest", field).contains(default));
    }
    let grace = "keeps the previous one for at most the rest of its grace";
    assert!(description("ServiceTokenRotateRequest", "grace").contains(grace));
}

#[tokio::test]
async fn document_responses_share_memory() {
    let tokens = ServiceTokens::new(MemoryStore::new());
    let layer = ServiceTokenLayer::new(MemoryStore::new());
    let router: Router = ManagementApi::new(tokens, layer).into_router();
    let mut parts = Vec::new();
    for _ in 0..2 {
        let request = Request::get("/openapi.json").body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let mut body = response.into_body();
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            frames.push(frame.unwrap().into_data().unwrap());
        }
        parts.push(frames);
    }
    let shortest_frame = |frames: &[Bytes]| frames.iter().map(Bytes::len).min().unwrap();
    assert!(shortest_frame(&parts[0]) < 10);
    for (one, other) in parts[0].iter().zip(&parts[1]) {
        assert!(one.as_ptr() == other.as_ptr() || one.len() < 10);
    }
}

#[tokio::test]
async fn serves_the_document_with_its_prefix_and_security_schemes() {
    let layer = || ServiceTokenLayer::new(MemoryStore::new());
    let header = TokenHeader::new("x-token".parse().unwrap()).unwrap();
    let other = CredentialSources::none().with_header(header);
    for (layer, expected_schemes) in [
        (layer(), &["serviceToken", "serviceTokenHeader"][..]),
        (
            layer().accept_bearer(),
            &["serviceToken", "serviceTokenBearer", "serviceTokenHeader"],
        ),
        (layer().with_sources(other), &["x-token"]),
    ] {
        let api = ManagementApi::new(ServiceTokens::new(MemoryStore::new()), layer);
        let router: Router = api.into_router();
        for (app, prefix) in [
            (router.clone(), "/"),
            (Router::new().nest("/api", router.clone()), "/api"),
            (
                Router::new().nest("/a", Router::new().nest("/b", router)),
                "/a/b",
            ),
        ] {
            let uri = format!("{}/openapi.json", prefix.trim_end_matches('/'));
            let request = Request::get(uri).body(Body::empty()).unwrap();
            let response = app.oneshot(request).await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["content-type"], "application/json");
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            let mut served: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(served["servers"], json!([{ "url": prefix }]));
            let schemes = served["components"]["securitySchemes"].as_object().unwrap();
            assert!(schemes.keys().eq(expected_schemes), "{schemes:?}");
            let security = &served["paths"]["/service-tokens"]["get"]["security"];
            assert_eq!(security.as_array().unwrap().len(), expected_schemes.len());
            // Everything else equals the document without a router.
            let served = served.as_object_mut().unwrap();
            assert_eq!(
                served["components"]["schemas"],
                DOCUMENT["components"]["schemas"]
            );
            assert_eq!(served["info"], DOCUMENT["info"]);
        }
    }
}

fn schema_of(name: &str, field: &str) -> Value {
    let schema = &DOCUMENT["components"]["schemas"][name]["properties"][field];
    assert!(schema.is_object(), "{name} {field}");
    schema.clone()
}

#[test]
fn not_before_and_time_filters_accept_times_and_dates() {
    let parameters = &operation("get", "/service-tokens").unwrap()["parameters"];
    let parameter = |name: &str| {
        let mut parameters = parameters.as_array().unwrap().iter();
        let found = parameters.find(|it| it["name"] == name);
        found.unwrap()["schema"].clone()
    };
    let times = ["2027-01-31", "2027-01-31T12:00:00Z"];
    for (schema, is_nullable) in [
        (schema_of("ServiceTokenCreateRequest", "not_before"), true),
        (schema_of("ServiceTokenUpdateRequest", "not_before"), true),
        (schema_of("ServiceTokenFilter", "expires_before"), true),
        (schema_of("ServiceTokenFilter", "last_used_before"), true),
        (parameter("expires_before"), false),
        (parameter("last_used_before"), false),
    ] {
        for time in times {
            assert_eq!(mismatches(&schema, &json!(time)), [""; 0], "{schema}");
        }
        assert_eq!(mismatches(&schema, &json!(null)).is_empty(), is_nullable);
        for other in [json!("30d"), json!("2027-01"), json!(1)] {
            assert_ne!(mismatches(&schema, &other), [""; 0], "{schema} {other}");
        }
    }
    for (field, description) in [
        (
            "expires_before",
            "Expires before this time. A date means its start, UTC.",
        ),
        (
            "last_used_before",
            "Last used, or created, before this time. A date means its start, UTC.",
        ),
    ] {
        let schema = schema_of("ServiceTokenFilter", field);
        assert_eq!(schema["description"], description, "{field}");
    }
    let number = parameter("number");
    assert_eq!(number["type"], "integer");
}

#[tokio::test]
async fn filter_numbers_are_integers_or_texts() {
    let server = Server::new().await;
    let (id, _) = server.create(json!({ "name": "ci" })).await;
    let number = id.parse::<TokenId>().unwrap().number();
    let schema = schema_of("ServiceTokenFilter", "number");
    for (number, count) in [
        (json!(number), 1),
        (serde_json::from_str(&format!("{number}.0")).unwrap(), 1),
        (json!(number.to_string()), 1),
        (json!(9_999_999_999_999_u64), 0),
        (json!("0"), 0),
    ] {
        assert_eq!(mismatches(&schema, &number), [""; 0], "{number}");
        let body = json!({ "dry_run": true, "filter": { "number": number } });
        let preview = server.call("POST /revoke", body).await;
        assert_eq!(
            (preview.status, &preview.json()["count"]),
            (200, &json!(count))
        );
    }
    for number in [
        json!(-1),
        json!(10_000_000_000_000_u64),
        json!("-1"),
        json!("1x"),
        json!("042"),
        json!("00"),
        json!(1.5),
    ] {
        assert_ne!(mismatches(&schema, &number), [""; 0], "{number}");
        let body = json!({ "dry_run": true, "filter": { "number": number } });
        let refused = server.call("POST /revoke", body).await;
        assert_eq!(refused.pointers(), ["/filter/number"], "{number}");
        let detail = refused.json()["errors"][0]["detail"].clone();
        assert_eq!(detail, "not a number of at most 13 digits", "{number}");
    }
}

#[test]
fn documents_the_headers_of_replays() {
    for (method, path, status, names) in [
        (
            "post",
            "/service-tokens",
            "200",
            &["ETag", "Idempotency-Replayed", "Location"][..],
        ),
        ("post", "/service-tokens", "201", &["ETag", "Location"]),
        (
            "post",
            "/service-tokens/{id}/rotate",
            "200",
            &["ETag", "Idempotency-Replayed"],
        ),
        (
            "post",
            "/service-tokens/self/rotate",
            "200",
            &["ETag", "Idempotency-Replayed"],
        ),
    ] {
        let headers = &operation(method, path).unwrap()["responses"][status]["headers"];
        for name in names {
            assert_eq!(headers[*name]["schema"]["type"], "string", "{path} {name}");
        }
    }
}
