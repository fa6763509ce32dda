//! The `StackState` dialect: requests as the `sts` command-line tool sends them, and the responses
//! that it expects.

use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use tests::api_fixture::{ApiFixture, ApiResponse};
use tower_service_token::MemoryStore;
use tower_service_token::api::stackstate::StackStateApi;
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::registry::TokenRegistry;
use tower_service_token::store::{TokenRecord, TokenState};
use tower_service_token::testing::{Fault, FaultyStore};
use tower_service_token::token::TokenId;

/// 2027-01-15T08:00:00Z
const NOW: i64 = 1_800_000_000_000;
const DAY: i64 = 86_400_000;
/// 2027-01-15T00:00:00Z
const TODAY: i64 = 1_799_971_200_000;

struct Server {
    managed: ApiFixture,
    store: MemoryStore,
    app: Router,
}

trait StackStateResponse {
    /// Asserts that the response is an error. The tool shows its messages only if the content type
    /// is exactly `application/json`.
    #[track_caller]
    fn assert_failed(&self, status: u16, kind: &str);
}

impl StackStateResponse for ApiResponse {
    #[track_caller]
    fn assert_failed(&self, status: u16, kind: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/json");
        let body = self.json();
        assert!(
            body["trackingKey"]
                .as_str()
                .is_some_and(|key| key.len() == 16)
        );
        assert_eq!(body["serverTimestamp"], NOW);
        let errors = body["errors"].as_array().expect("errors");
        assert_eq!(errors[0]["_type"], kind);
        assert!(
            errors
                .iter()
                .all(|it| it["message"].as_str().is_some_and(|it| !it.is_empty()))
        );
        assert_eq!(body["_type"], kind);
    }
}

impl Server {
    async fn new() -> Self {
        let store = MemoryStore::new();
        Self::with_stores(store.clone(), store).await
    }

    async fn with_stores(callers: MemoryStore, store: impl TokenRegistry) -> Self {
        let managed = ApiFixture::new(callers.clone(), store).await;
        let api = StackStateApi::new(managed.tokens.clone(), managed.layer.clone());
        Self {
            managed,
            store: callers,
            app: Router::new().nest("/api", api.into_router()),
        }
    }

    async fn holder(&self, scopes: &[&str]) -> String {
        let issued = self.managed.holder(scopes).await;
        issued.expose_secret().to_owned()
    }

    async fn call_as(&self, token: Option<&str>, call: &str, body: &str) -> ApiResponse {
        let (method, path) = call.split_once(' ').unwrap();
        let call = format!("{method} /api/{path}");
        let headers = |mut request: http::request::Builder| {
            if let Some(token) = token {
                request = request.header("x-api-key", token);
            }
            if !body.is_empty() {
                request = request.header("content-type", "application/json");
            }
            request
        };
        ApiResponse::send(&self.app, &call, headers, body).await
    }

    async fn call(&self, call: &str, body: &str) -> ApiResponse {
        self.call_as(Some(self.managed.admin.expose_secret()), call, body)
            .await
    }

    /// Returns the listed token with this name.
    async fn listed(&self, name: &str) -> Option<Value> {
        let list = self.call("GET security/tokens", "").await.json();
        let list = list.as_array().expect("a bare array").clone();
        list.into_iter().find(|token| token["name"] == name)
    }
}

#[tokio::test]
async fn reports_a_supported_version() {
    let server = Server::new().await;
    let plain = server.holder(&[]).await;
    let response = server.call_as(Some(&plain), "GET server/info", "").await;
    assert_eq!(response.status, 200);
    assert_eq!(response.headers["content-type"], "application/json");
    let info = response.json();
    let version =
        json!({ "major": 5, "minor": 2, "patch": 0, "diff": "", "commit": "", "isDev": false });
    assert_eq!(info["version"], version);
    assert!(info["deploymentMode"].is_string() && info["platformVersion"].is_string());
    assert_eq!(info["applicationDomains"], json!([]));
    let status = server.call_as(Some(&plain), "GET server/status", "").await;
    assert_eq!(
        (status.status, status.json()),
        (200, json!({ "status": "OK" }))
    );
}

#[tokio::test]
async fn rejects_invalid_tokens_before_missing_scopes() {
    let server = Server::new().await;
    let plain = server.holder(&["other:read"]).await;
    let reader = server.holder(&["service-tokens:read"]).await;
    let writer = server.holder(&["service-tokens:write"]).await;
    let new = r#"{"name":"x","roles":[],"dedicatedSubject":""}"#;
    for (call, body, allowed) in [
        ("GET server/info", "", &[&plain, &reader, &writer][..]),
        ("GET server/status", "", &[&plain, &reader, &writer]),
        ("GET security/tokens", "", &[&reader]),
        ("POST security/tokens", new, &[&writer]),
        ("DELETE security/tokens/5", "", &[&writer]),
    ] {
        for bad in [None, Some("svctok-unknown"), Some(&*"x".repeat(600))] {
            let response = server.call_as(bad, call, body).await;
            let is_long = bad.is_some_and(|bad| bad.len() > 512);
            let (status, kind) = if is_long {
                (400, "BadRequestError")
            } else {
                (401, "UnauthorizedError")
            };
            response.assert_failed(status, kind);
            assert!(response.headers.contains_key("www-authenticate"));
        }
        for token in [&plain, &reader, &writer] {
            let response = server.call_as(Some(token), call, body).await;
            if allowed.contains(&token) {
                assert!(
                    [200, 404].contains(&response.status),
                    "{call}: {response:?}"
                );
            } else {
                response.assert_failed(403, "ForbiddenError");
            }
        }
    }
}

#[tokio::test]
async fn creates_lists_and_deletes_tokens() {
    let server = Server::new().await;
    // As the tool sends it, for `--name ci --roles a,b`.
    let body = r#"{"name":"ci","roles":["a","b"],"dedicatedSubject":""}"#;
    let response = server.call("POST security/tokens", body).await;
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.headers["content-type"], "application/json");
    assert_eq!(response.headers["cache-control"], "no-store");
    let created = response.json();
    assert_eq!(
        (&created["name"], &created["expiration"]),
        (&json!("ci"), &Value::Null)
    );
    let secret = created["token"].as_str().unwrap();
    assert_eq!(
        server
            .call_as(Some(secret), "GET server/status", "")
            .await
            .status,
        200
    );

    let listed = server.listed("ci").await.expect("listed");
    let id = listed["id"].as_i64().expect("an integer");
    let expected = json!({
        "id": id, "name": "ci", "roles": ["a", "b"],
        "lastUpdateTimestamp": listed["lastUpdateTimestamp"],
    });
    assert_eq!(listed, expected);
    let all = server.call("GET security/tokens", "").await;
    assert!(!all.body.contains(secret), "{all:?}");

    let response = server
        .call(&format!("DELETE security/tokens/{id}"), "")
        .await;
    assert_eq!((response.status, &*response.body), (204, ""));
    assert_eq!(server.listed("ci").await, None);
    assert_eq!(
        server
            .call_as(Some(secret), "GET server/status", "")
            .await
            .status,
        401
    );
    for unknown_id in [
        &*id.to_string(),
        "0",
        "-1",
        "9223372036854775807",
        "99999999999999999999",
        "x",
        "%FF",
    ] {
        let response = server
            .call(&format!("DELETE security/tokens/{unknown_id}"), "")
            .await;
        response.assert_failed(404, "NotFoundError");
    }
}

#[tokio::test]
async fn dates_expire_at_the_end_of_the_day_and_display_as_noon() {
    for (given, shown, expiry) in [
        (TODAY, TODAY + DAY / 2, TODAY + DAY),
        (TODAY + 9 * DAY, TODAY + 9 * DAY + DAY / 2, TODAY + 10 * DAY),
        (NOW + 1_500, NOW + 1_500, NOW + 1_500),
    ] {
        let server = Server::new().await;
        let body = json!({
            "name": "ci", "roles": [], "dedicatedSubject": "alice", "expiryDate": given,
        });
        let response = server
            .call("POST security/tokens", &body.to_string())
            .await
            .json();
        assert_eq!(response["expiration"], shown);
        let listed = server.listed("ci").await.unwrap();
        assert_eq!(listed["expiration"], shown);
        assert_eq!(listed["dedicatedSubject"], "alice");
        let secret = response["token"].as_str();
        let remaining = (expiry - NOW).unsigned_abs();
        server
            .managed
            .clock
            .advance(Duration::from_millis(remaining - 1));
        assert_eq!(
            server.call_as(secret, "GET server/status", "").await.status,
            200
        );
        server.managed.clock.advance(Duration::from_millis(1));
        assert_eq!(
            server.call_as(secret, "GET server/status", "").await.status,
            401
        );
    }
}

#[tokio::test]
async fn rejects_past_expiries() {
    let server = Server::new().await;
    for given in [TODAY - DAY, NOW, NOW - 1, 1, 0, -1, i64::MIN] {
        let body = json!({ "name": "x", "roles": [], "dedicatedSubject": "", "expiryDate": given });
        let response = server.call("POST security/tokens", &body.to_string()).await;
        response.assert_failed(400, "ServiceTokenInvalidExpiryError");
        let message = response.json()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("expiryDate: "), "{message}");
    }
    assert_eq!(server.listed("x").await, None);
}

#[tokio::test]
async fn rejects_invalid_creations_with_a_reason() {
    let server = Server::new().await;
    for bad in [
        "",
        "{",
        "[]",
        r#"{"name":"x","roles":[],"roles":["hush"]}"#,
        r#"{"name":"x","expiryDate":1,"expiryDate":null}"#,
    ] {
        let response = server.call("POST security/tokens", bad).await;
        response.assert_failed(400, "BadRequestError");
        assert!(!response.body.contains("hush"));
    }
    for (bad, pointer) in [
        (r#"{"name":5,"roles":[]}"#, "/name"),
        (r#"{"name":"x","roles":"hush"}"#, "/roles"),
        (r#"{"name":"x","roles":["a",7]}"#, "/roles/1"),
        (r#"{"name":"x","expiryDate":"hush"}"#, "/expiryDate"),
        (r#"{"name":"x","expiryDate":1.5}"#, "/expiryDate"),
        // These members are part of the response. If they were ignored, the token would never
        // expire.
        (r#"{"name":"x","expiration":"hush"}"#, "/expiration"),
        (r#"{"name":"x","description":"hush"}"#, "/description"),
        (
            r#"{"name":"x","dedicatedSubject":"a\nb"}"#,
            "dedicatedSubject",
        ),
        ("{}", "name"),
        (r#"{"name":"","roles":[]}"#, "name"),
    ] {
        let response = server.call("POST security/tokens", bad).await;
        response.assert_failed(422, "BadRequestError");
        assert!(!response.body.contains("hush"));
        let message = response.json()["message"].as_str().unwrap().to_owned();
        assert!(
            message.starts_with(&format!("{pointer}: ")),
            "{bad}: {message}"
        );
    }
    assert_eq!(server.listed("x").await, None);
    let long = json!({ "name": "x".repeat(70_000) }).to_string();
    let response = server.call("POST security/tokens", &long).await;
    response.assert_failed(413, "PayloadTooLargeError");
    let writer = server.holder(&["service-tokens:write"]).await;
    let body = r#"{"name":"x","roles":["stackstate-admin"],"dedicatedSubject":""}"#;
    let response = server
        .call_as(Some(&writer), "POST security/tokens", body)
        .await;
    response.assert_failed(403, "ForbiddenError");
    assert!(response.body.contains("stackstate-admin"));
}

#[tokio::test]
async fn rejects_other_methods() {
    let server = Server::new().await;
    for call in [
        "PUT security/tokens",
        "PATCH security/tokens/1",
        "POST server/info",
    ] {
        let response = server.call(call, "").await;
        response.assert_failed(405, "BadRequestError");
        assert!(response.headers.contains_key("allow"), "{call}");
    }
}

#[tokio::test]
async fn store_failures_are_503() {
    let store = FaultyStore::new(MemoryStore::new());
    let server = Server::with_stores(MemoryStore::new(), store.clone()).await;
    store.inject(Fault::Error);
    for (call, body) in [
        ("GET security/tokens", ""),
        ("POST security/tokens", r#"{"name":"x","roles":[]}"#),
        ("DELETE security/tokens/5", ""),
    ] {
        let response = server.call(call, body).await;
        let kind = if call.starts_with("GET") {
            "ServiceUnavailableError"
        } else {
            "ChangeFailedError"
        };
        response.assert_failed(503, kind);
        assert!(response.headers.contains_key("retry-after"));
    }
}

/// Returns the numeric ID that the tool uses for a token. It has at most 13 digits, because jq and
/// JavaScript round longer numbers, and the tool's table truncates them.
fn number(record: &TokenRecord) -> i64 {
    record.id().as_i64() % 10_000_000_000_000
}

#[tokio::test]
async fn ids_have_at_most_13_digits() {
    let server = Server::new().await;
    let tokens = &server.managed.tokens;
    let mut records = Vec::new();
    for index in 0..50 {
        let new = NewToken::new(format!("t{index}"));
        records.push(tokens.create(new).await.unwrap().record().clone());
    }
    let once = NewToken::new("once").with_idempotency_key("a");
    records.push(tokens.create(once).await.unwrap().record().clone());
    let imported = tokens.import(NewToken::new("imported"), TokenDigest::of("x"));
    records.push(imported.await.unwrap());
    for record in records {
        let id = server.listed(record.name()).await.unwrap()["id"].clone();
        assert_eq!(id, number(&record), "{record:?}");
        assert!(id.to_string().len() <= 13);
        let path = format!("DELETE security/tokens/{id}");
        assert_eq!(server.call(&path, "").await.status, 204);
        let found = tokens.get(record.id()).await.unwrap();
        assert_eq!(found.state(), TokenState::Revoked);
        server
            .call(&path, "")
            .await
            .assert_failed(404, "NotFoundError");
    }
}

/// Scripts may have stored the longer IDs of earlier releases.
#[tokio::test]
async fn deletes_tokens_by_ids_of_earlier_releases() {
    let server = Server::new().await;
    let id = TokenId::from_i64(107_484_341_630_693).unwrap();
    let record = TokenRecord::new(id, TokenDigest::of("old")).with_name("old");
    server.store.insert(record).unwrap();
    assert_eq!(
        server.listed("old").await.unwrap()["id"],
        7_484_341_630_693_i64
    );
    for unknown in [
        "107484341630692",
        "10107484341630693",
        "7484341630692",
        "07484341630693",
        "0107484341630693",
    ] {
        let response = server
            .call(&format!("DELETE security/tokens/{unknown}"), "")
            .await;
        response.assert_failed(404, "NotFoundError");
    }
    let response = server
        .call("DELETE security/tokens/107484341630693", "")
        .await;
    assert_eq!(response.status, 204, "{response:?}");
    assert_eq!(server.listed("old").await, None);
}

/// Two tokens of an earlier release may have the same short ID.
#[tokio::test]
async fn ambiguous_ids_delete_nothing() {
    let server = Server::new().await;
    for (id, name) in [
        (5, "a"),
        (10_000_000_000_005, "b"),
        (20_000_000_000_005, "c"),
    ] {
        let id = TokenId::from_i64(id).unwrap();
        let record = TokenRecord::new(id, TokenDigest::of(name)).with_name(name);
        server.store.insert(record).unwrap();
    }
    for _ in 0..2 {
        let response = server.call("DELETE security/tokens/5", "").await;
        response.assert_failed(409, "ConflictError");
        let message = response.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("several tokens"), "{message}");
        assert!(server.listed("a").await.is_some() && server.listed("b").await.is_some());
    }
    // The long ID identifies one of them.
    for id in ["10000000000005", "20000000000005"] {
        let response = server
            .call(&format!("DELETE security/tokens/{id}"), "")
            .await;
        assert_eq!(response.status, 204, "{response:?}");
    }
    // Revoked tokens no longer count.
    assert_eq!(
        server.call("DELETE security/tokens/5", "").await.status,
        204
    );
    assert_eq!(server.listed("a").await, None);
}

#[tokio::test]
async fn roles_are_trimmed() {
    let server = Server::new().await;
    // As the tool sends it, for `--roles 'viewer, admin'`.
    let body = r#"{"name":"ci","roles":["viewer"," admin"],"dedicatedSubject":""}"#;
    let response = server.call("POST security/tokens", body).await;
    assert_eq!(response.status, 200, "{response:?}");
    let listed = server.listed("ci").await.unwrap();
    assert_eq!(listed["roles"], json!(["viewer", "admin"]));
}
