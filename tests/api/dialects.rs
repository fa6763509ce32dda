//! Rules that the management API and both dialects share: strict bodies, unknown paths, missing
//! scopes and failed changes.

use axum::Router;
use http::request::Builder;
use serde_json::{Value, json};
use tests::api_fixture::{ApiFixture, ApiResponse};
use tower_service_token::api::management::ManagementApi;
use tower_service_token::api::oauth::OAuthEndpoints;
use tower_service_token::api::pipeops::PipeOpsApi;
use tower_service_token::api::stackstate::StackStateApi;
use tower_service_token::lifecycle::{CallbackError, NewToken, Page};
use tower_service_token::registry::TokenFilter;
use tower_service_token::testing::{Fault, FaultyStore};
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

const STACKSTATE: &str = "/api/security/tokens";
const PIPEOPS: &str = "/api/v1/service-account-tokens";
const MANAGEMENT: &str = "/service-tokens";

struct Server {
    managed: ApiFixture,
    store: FaultyStore<MemoryStore>,
    app: Router,
    /// The ID of the target token, which has a name, a role and a scope.
    id: String,
    number: i64,
}

impl Server {
    /// Looks callers up in a separate store that never fails.
    async fn new() -> Self {
        let store = FaultyStore::new(MemoryStore::new());
        let managed = ApiFixture::new(MemoryStore::new(), store.clone()).await;
        Self::with(managed, store).await
    }

    /// Looks callers up in the store that the calls change.
    async fn with_one_store() -> Self {
        let store = FaultyStore::new(MemoryStore::new());
        let tokens = ServiceTokens::new(store.clone());
        let new = NewToken::new("admin").with_scopes(["service-tokens:admin"]);
        let admin = tokens.create(new).await.unwrap();
        let managed = ApiFixture {
            layer: ServiceTokenLayer::new(store.clone()),
            tokens,
            admin,
            ..ApiFixture::new(MemoryStore::new(), MemoryStore::new()).await
        };
        Self::with(managed, store).await
    }

    async fn with(managed: ApiFixture, store: FaultyStore<MemoryStore>) -> Self {
        let ApiFixture { tokens, layer, .. } = &managed;
        let stackstate = StackStateApi::new(tokens.clone(), layer.clone());
        let pipeops = PipeOpsApi::new(tokens.clone(), layer.clone());
        let management = ManagementApi::new(tokens.clone(), layer.clone());
        let oauth = OAuthEndpoints::new(tokens.clone(), layer.clone());
        let app = Router::new()
            .merge(management.into_router())
            .merge(oauth.into_router())
            .nest("/api", stackstate.into_router())
            .merge(pipeops.into_router());
        let new = NewToken::new("target")
            .with_roles(["r"])
            .with_scopes(["a:b"]);
        let target = tokens.create(new).await.unwrap();
        Self {
            id: target.record().id().to_string(),
            number: target.record().id().number(),
            managed,
            store,
            app,
        }
    }

    async fn call_as(&self, token: &str, call: &str, body: &str) -> ApiResponse {
        let call = call.replace("{id}", &self.id);
        let call = call.replace("{number}", &self.number.to_string());
        let headers = |request: Builder| {
            let request = request.header("x-api-key", token);
            if body.is_empty() {
                return request;
            }
            request.header("content-type", "application/json")
        };
        ApiResponse::send(&self.app, &call, headers, body).await
    }

    async fn call(&self, call: &str, body: &str) -> ApiResponse {
        let token = self.managed.admin.expose_secret();
        self.call_as(token, call, body).await
    }

    /// Asserts that no request created or changed a token.
    async fn assert_unchanged(&self) {
        let page = Page::with_limit(100);
        let listed = self.managed.tokens.list(TokenFilter::new(), page).await;
        let records = listed.unwrap().records;
        let target = records.iter().find(|it| it.name() == "target").unwrap();
        assert_eq!(target.revision(), 1);
        assert!(
            records
                .iter()
                .all(|it| ["target", "admin"].contains(&it.name()))
        );
    }
}

/// Each call that changes a token, with a valid body.
const CHANGES: [(&str, &str); 13] = [
    ("POST /service-tokens", r#"{"name":"x"}"#),
    ("PATCH /service-tokens/{id}", r#"{"name":"y"}"#),
    ("POST /service-tokens/{id}/rotate", ""),
    ("POST /service-tokens/{id}/disable", ""),
    ("POST /service-tokens/{id}/enable", ""),
    (
        "POST /service-tokens/revoke",
        r#"{"filter":{"name":"target"},"expect":1}"#,
    ),
    ("POST /service-tokens/self/rotate", ""),
    ("DELETE /service-tokens/{id}", ""),
    ("POST /api/security/tokens", r#"{"name":"x"}"#),
    ("DELETE /api/security/tokens/{number}", ""),
    ("POST /api/v1/service-account-tokens", r#"{"name":"x"}"#),
    (
        "PATCH /api/v1/service-account-tokens/{id}",
        r#"{"name":"y"}"#,
    ),
    ("DELETE /api/v1/service-account-tokens/{id}", ""),
];

/// Each call that reads tokens.
const READS: [(&str, &str); 7] = [
    ("GET /service-tokens", ""),
    ("GET /service-tokens/{id}", ""),
    (
        "POST /service-tokens/revoke",
        r#"{"filter":{"name":"target"},"dry_run":true}"#,
    ),
    ("GET /api/security/tokens", ""),
    ("GET /api/v1/service-account-tokens", ""),
    ("GET /api/v1/service-account-tokens/{id}", ""),
    ("GET /workspace", ""),
];

/// Returns the human-readable message of an error response of any API.
fn message(response: &ApiResponse) -> String {
    let body = response.json();
    let member = if body["detail"].is_string() {
        &body["detail"]
    } else {
        &body["message"]
    };
    member.as_str().expect("a message").to_owned()
}

#[tokio::test]
async fn rejects_duplicate_members_in_every_body() {
    let server = Server::new().await;
    for (call, body) in [
        (
            "POST /service-tokens",
            r#"{"name":"x","scopes":[],"scopes":["service-tokens:admin"]}"#,
        ),
        (
            "POST /service-tokens",
            r#"{"name":"x","labels":{"a":"1","a":"2"}}"#,
        ),
        ("POST /service-tokens", r#"{"name":"x","n\u0061me":"y"}"#),
        ("PATCH /service-tokens/{id}", r#"{"name":"y","name":"z"}"#),
        (
            "PATCH /service-tokens/{id}",
            r#"{"labels":{"a":null,"a":"1"}}"#,
        ),
        (
            "POST /service-tokens/{id}/rotate",
            r#"{"grace":"1h","grace":"0s"}"#,
        ),
        (
            "POST /service-tokens/revoke",
            r#"{"filter":{"name":"target"},"expect":1,"dry_run":true,"dry_run":false}"#,
        ),
        (
            "POST /service-tokens/revoke",
            r#"{"filter":{"name":"x","name":"target"},"expect":1}"#,
        ),
        (
            "POST /service-tokens/revoke",
            r#"{"filter":{"name":"x"},"filter":{},"expect":2}"#,
        ),
        (
            "POST /service-tokens/self/rotate",
            r#"{"grace":"1h","grace":"0s"}"#,
        ),
        (
            "POST /api/security/tokens",
            r#"{"name":"x","roles":[],"roles":["admin"]}"#,
        ),
        (
            "POST /api/security/tokens",
            r#"{"name":"x","expiryDate":4102444800000,"expiryDate":null}"#,
        ),
        (
            "POST /api/v1/service-account-tokens",
            r#"{"name":"x","scopes":[],"scopes":["service-tokens:admin"]}"#,
        ),
        (
            "POST /api/v1/service-account-tokens",
            r#"{"name":"x","expires_in":"1d","expires_in":null}"#,
        ),
        (
            "PATCH /api/v1/service-account-tokens/{id}",
            r#"{"is_active":true,"is_active":false}"#,
        ),
    ] {
        let response = server.call(call, body).await;
        assert_eq!(response.status, 400, "{call} {body}: {response:?}");
        assert!(message(&response).contains("given twice"), "{response:?}");
    }
    server.assert_unchanged().await;
}

#[tokio::test]
async fn rejects_unknown_members_in_every_body() {
    let server = Server::new().await;
    for (call, body, member) in [
        (
            "POST /service-tokens",
            r#"{"name":"x","Roles":["r"]}"#,
            "/Roles",
        ),
        (
            "POST /service-tokens",
            r#"{"name":"x","expiration":"1d"}"#,
            "/expiration",
        ),
        ("PATCH /service-tokens/{id}", r#"{"nmae":"y"}"#, "/nmae"),
        (
            "POST /service-tokens/{id}/rotate",
            r#"{"graze":"1h"}"#,
            "/graze",
        ),
        (
            "POST /service-tokens/revoke",
            r#"{"filter":{},"dryRun":true,"expect":2}"#,
            "/dryRun",
        ),
        (
            "POST /service-tokens/revoke",
            r#"{"filter":{"nmae":"x"},"expect":2}"#,
            "/filter/nmae",
        ),
        (
            "POST /api/security/tokens",
            r#"{"name":"x","expiration":4102444800000}"#,
            "/expiration",
        ),
        (
            "POST /api/security/tokens",
            r#"{"name":"x","Roles":["r"]}"#,
            "/Roles",
        ),
        (
            "POST /api/v1/service-account-tokens",
            r#"{"name":"x","expiresIn":1}"#,
            "/expiresIn",
        ),
        (
            "PATCH /api/v1/service-account-tokens/{id}",
            r#"{"isActive":false}"#,
            "/isActive",
        ),
    ] {
        let response = server.call(call, body).await;
        assert_eq!(response.status, 422, "{call} {body}: {response:?}");
        assert!(
            response.body.contains(member),
            "{call} {body}: {response:?}"
        );
    }
    server.assert_unchanged().await;
}

#[tokio::test]
async fn unknown_paths_get_an_error_in_the_format_of_their_dialect() {
    let server = Server::new().await;
    for method in ["GET", "POST", "DELETE"] {
        for path in [
            "/api",
            "/api/nope",
            "/api/security",
            "/api/security/token",
            "/api/security/tokens/1/2",
            "/api/server/infos",
        ] {
            let response = server.call(&format!("{method} {path}"), "").await;
            assert_eq!(response.status, 404, "{method} {path}: {response:?}");
            assert_eq!(response.headers["content-type"], "application/json");
            let body = response.json();
            assert_eq!(body["_type"], "NotFoundError", "{path}");
            assert_eq!(body["errors"][0]["message"], "there is no such path");
            assert!(body["trackingKey"].is_string());
        }
        for path in [
            "/api/v1",
            "/api/v1/nope",
            "/api/v1/service-account-token",
            "/api/v1/service-account-tokens/1/2",
        ] {
            let response = server.call(&format!("{method} {path}"), "{}").await;
            assert_eq!(response.status, 404, "{method} {path}: {response:?}");
            assert_eq!(response.headers["content-type"], "application/json");
            let message = "there is no such path";
            let expected = json!({ "success": false, "status": "error", "message": message });
            assert_eq!(response.json(), expected, "{path}");
        }
        // The APIs do not handle other paths.
        for path in ["/nope", "/apis"] {
            let response = server.call(&format!("{method} {path}"), "").await;
            assert_eq!((response.status, &*response.body), (404, ""), "{path}");
        }
    }
}

#[tokio::test]
async fn app_routes_take_precedence_over_not_found_errors() {
    let Server { managed, .. } = Server::new().await;
    let stackstate = StackStateApi::new(managed.tokens.clone(), managed.layer.clone());
    let pipeops = PipeOpsApi::new(managed.tokens, managed.layer);
    let app_routes = Router::new()
        .route("/jobs/{id}", axum::routing::get(async || "a job"))
        .route("/{*rest}", axum::routing::get(async || "the rest"));
    let app = Router::new()
        .merge(pipeops.into_router())
        .nest("/api", stackstate.into_router())
        .nest("/api/v1", app_routes)
        .fallback(async || "the app");
    for (path, expected) in [
        ("/api/v1/jobs/7", "a job"),
        ("/api/v1/other", "the rest"),
        ("/other", "the app"),
    ] {
        let response = ApiResponse::send(&app, &format!("GET {path}"), |it| it, "").await;
        assert_eq!(
            (response.status, &*response.body),
            (200, expected),
            "{path}"
        );
    }
}

#[tokio::test]
async fn missing_scopes_are_named_by_every_api() {
    let server = Server::with_one_store().await;
    let reader = server.managed.holder(&["service-tokens:read"]).await;
    let writer = server.managed.holder(&["service-tokens:write"]).await;
    let scopes = |kind: &str| json!([format!("service-tokens:{kind}"), "service-tokens:admin"]);
    let changes = CHANGES
        .iter()
        .map(|(call, body)| (call, body, &reader, "write"));
    let reads = READS
        .iter()
        .map(|(call, body)| (call, body, &writer, "read"));
    for (call, body, token, kind) in changes.chain(reads) {
        if call.contains("/self") || call.ends_with("/workspace") || body.contains("dry_run") {
            continue;
        }
        let response = server.call_as(token.expose_secret(), call, body).await;
        assert_eq!(response.status, 403, "{call}: {response:?}");
        let required = json!({ "match": "any", "scopes": scopes(kind) });
        assert_eq!(response.json()["required"], required, "{call}");
        if !call.contains(MANAGEMENT) {
            let expected = format!("missing scope: service-tokens:{kind} or service-tokens:admin");
            assert_eq!(message(&response), expected, "{call}");
        }
    }
    let headers = |request: Builder| {
        let request = request.header("x-api-key", reader.expose_secret());
        request.header("content-type", "application/x-www-form-urlencoded")
    };
    let response = ApiResponse::send(&server.app, "POST /introspect", headers, "token=x").await;
    assert_eq!(response.status, 403);
    assert_eq!(response.json()["required"]["scopes"], json!(["introspect"]));
}

/// Asserts that the response reports a failed change or an unknown outcome.
#[track_caller]
fn assert_failed_change(call: &str, response: &ApiResponse) {
    assert_eq!(response.status, 503, "{call}: {response:?}");
    assert!(response.headers.contains_key("retry-after"));
    let expected = "the token store is unavailable: the change failed, or its outcome is unknown";
    assert_eq!(message(response), expected, "{call}");
    let body = response.json();
    if call.contains(STACKSTATE) {
        assert_eq!(body["_type"], "ChangeFailedError");
    } else if !call.contains(PIPEOPS) {
        assert_eq!(body["code"], "change_failed");
    }
}

#[track_caller]
fn assert_failed_read(call: &str, response: &ApiResponse) {
    assert_eq!(response.status, 503, "{call}: {response:?}");
    assert!(
        !message(response).contains("change"),
        "{call}: {response:?}"
    );
    let code = &response.json()["code"];
    assert!(
        [Value::Null, json!("auth_unavailable")].contains(code),
        "{call}"
    );
}

#[tokio::test]
async fn store_failures_during_changes_are_reported() {
    let server = Server::new().await;
    server.store.inject(Fault::Error);
    for (call, body) in CHANGES {
        // The caller's own token is in the store that does not fail.
        if !call.contains("/self") {
            assert_failed_change(call, &server.call(call, body).await);
        }
    }
    for (call, body) in READS {
        assert_failed_read(call, &server.call(call, body).await);
    }
    server.store.clear_fault();
    server.assert_unchanged().await;
}

#[tokio::test]
async fn store_failures_between_authentication_and_change_are_reported() {
    let server = Server::with_one_store().await;
    for (call, body) in CHANGES {
        // The layer's lookup of the caller succeeds; the lookup after the body is read fails.
        server.store.inject_after(1, Fault::Error);
        assert_failed_change(call, &server.call(call, body).await);
    }
    for (call, body) in READS {
        server.store.inject_after(1, Fault::Error);
        assert_failed_read(call, &server.call(call, body).await);
    }
    // If the layer's own lookup fails, no change was attempted.
    for (call, body) in CHANGES {
        server.store.inject(Fault::Error);
        assert_failed_read(call, &server.call(call, body).await);
    }
    server.store.clear_fault();
    server.assert_unchanged().await;
}

#[tokio::test]
async fn an_outage_of_the_limits_of_owners_is_not_reported_as_one_of_the_store() {
    let store = FaultyStore::new(MemoryStore::new());
    let tokens = ServiceTokens::new(store.clone());
    let new = NewToken::new("admin").with_scopes(["service-tokens:write"]);
    let admin = tokens.create(new.with_owner("user:1")).await.unwrap();
    let unavailable = |_: String| std::future::ready(Err(CallbackError::unavailable("down")));
    let managed = ApiFixture {
        layer: ServiceTokenLayer::new(store.clone()),
        tokens: tokens.with_owner_policies(unavailable),
        admin,
        ..ApiFixture::new(MemoryStore::new(), MemoryStore::new()).await
    };
    let server = Server::with(managed, store).await;
    let creations = [MANAGEMENT, STACKSTATE, PIPEOPS].map(|path| format!("POST {path}"));
    for call in &creations {
        let response = server.call(call, r#"{"name":"x"}"#).await;
        assert_eq!(response.status, 503, "{call}: {response:?}");
        let expected = "the limits of the owner cannot be read at the moment; nothing was changed";
        assert_eq!(message(&response), expected, "{call}");
        let body = response.json();
        if call.contains(STACKSTATE) {
            assert_eq!(body["_type"], "ChangeFailedError");
        } else if !call.contains(PIPEOPS) {
            assert_eq!(body["code"], "change_failed");
        }
    }
    server.assert_unchanged().await;
}
