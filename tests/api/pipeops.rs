//! The `PipeOps` dialect: requests as the client `pipeops-go-sdk` sends them, and the responses
//! that it expects.

use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use tests::api_fixture::{ApiFixture, ApiResponse};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower_service_token::MemoryStore;
use tower_service_token::api::pipeops::PipeOpsApi;
use tower_service_token::lifecycle::{NewToken, TokenUpdate};
use tower_service_token::registry::TokenRegistry;
use tower_service_token::store::TokenState;
use tower_service_token::testing::{Fault, FaultyStore};
use tower_service_token::token::TokenId;

const TOKENS: &str = "/api/v1/service-account-tokens";
const READ_TIMEOUT: Duration = Duration::from_secs(30);

struct Server {
    managed: ApiFixture,
    app: Router,
}

trait PipeOpsResponse {
    /// Asserts that the response is an error, and returns the message that the client shows.
    #[track_caller]
    fn assert_failed(&self, status: u16) -> String;

    /// Asserts success with this status, and returns the member `data`.
    #[track_caller]
    fn data(&self, status: u16) -> Value;
}

impl PipeOpsResponse for ApiResponse {
    #[track_caller]
    fn assert_failed(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/json");
        assert_eq!(self.headers["cache-control"], "no-store");
        let body = self.json();
        let message = body["message"].as_str().expect("a message").to_owned();
        assert!(!message.is_empty() && !message.contains("svctok-"));
        let mut expected = json!({ "success": false, "status": "error", "message": message });
        if message.starts_with("missing ") {
            expected["required"] = body["required"].clone();
            assert!(expected["required"].is_object());
        }
        if message.starts_with("caller is missing ") {
            expected["missing"] = body["missing"].clone();
            assert!(expected["missing"].is_array());
        }
        assert_eq!(body, expected);
        message
    }

    #[track_caller]
    fn data(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/json");
        assert_eq!(self.headers["cache-control"], "no-store");
        let body = self.json();
        assert_eq!(
            (&body["success"], &body["status"]),
            (&json!(true), &json!("success"))
        );
        assert!(body["message"].is_string());
        body["data"].clone()
    }
}

impl Server {
    async fn new() -> Self {
        let store = MemoryStore::new();
        Self::with_stores(store.clone(), store).await
    }

    async fn with_stores(callers: MemoryStore, store: impl TokenRegistry) -> Self {
        let managed = ApiFixture::new(callers, store).await;
        let api = PipeOpsApi::new(managed.tokens.clone(), managed.layer.clone());
        Self {
            managed,
            app: Router::new().merge(api.into_router()),
        }
    }

    /// Creates a token with these scopes and returns its secret.
    async fn holder(&self, scopes: &[&str]) -> String {
        let issued = self.managed.holder(scopes).await;
        issued.expose_secret().to_owned()
    }

    /// Sends a call such as `GET /{uuid}` with the headers that the client sends.
    async fn call_as(&self, token: Option<&str>, call: &str, body: &str) -> ApiResponse {
        let (method, path) = call.split_once(' ').unwrap();
        let target = match path {
            "/workspace" => path.to_owned(),
            path => format!("{TOKENS}{path}"),
        };
        let headers = |mut request: http::request::Builder| {
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            request
                .header("accept", "application/json")
                .header("content-type", "application/json")
        };
        ApiResponse::send(&self.app, &format!("{method} {target}"), headers, body).await
    }

    async fn call(&self, call: &str, body: &str) -> ApiResponse {
        self.call_as(Some(self.managed.admin.expose_secret()), call, body)
            .await
    }

    /// Creates a token as the administrator, and returns it with its secret.
    async fn create(&self, body: Value) -> Value {
        let response = self.call("POST ", &body.to_string()).await;
        response.data(201)["token"].clone()
    }

    async fn works(&self, token: &Value) -> bool {
        let secret = token["token"].as_str();
        self.call_as(secret, "GET /workspace", "").await.status == 200
    }
}

fn id(token: &Value) -> &str {
    token["uuid"].as_str().expect("an id")
}

fn names(list: &Value) -> Vec<&str> {
    let tokens = list["tokens"].as_array().expect("tokens").iter();
    let mut names: Vec<_> = tokens.map(|it| it["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn creates_tokens_with_every_member() {
    let server = Server::new().await;
    let body = r#"{"name":"CI/CD Token","description":"For automated deployments","permissions":["projects:write","deployments:create"],"expires_at":"2027-02-14T08:00:00Z","workspace_uuid":"w-1"}"#;
    let response = server.call("POST ?workspace_uuid=w-1", body).await;
    let data = response.data(201);
    let created = &data["token"];
    let (id, secret) = (id(created), created["token"].as_str().unwrap());
    let scopes = json!(["projects:write", "deployments:create"]);
    let mut expected = json!({
        "uuid": id, "id": id, "name": "CI/CD Token",
        "description": "For automated deployments", "token": secret,
        "token_prefix": format!("svctok-{id}_"), "workspace_id": "w-1",
        "permissions": scopes, "scopes": scopes, "is_active": true,
        "expires_at": "2027-02-14T08:00:00Z", "created_at": "2027-01-15T08:00:00Z",
        "updated_at": "2027-01-15T08:00:00Z", "last_used_at": null,
    });
    assert_eq!(data, json!({ "token": expected }));
    assert!(secret.starts_with(created["token_prefix"].as_str().unwrap()));
    assert_eq!(id.len(), 10);
    assert!(server.works(created).await);

    expected.as_object_mut().unwrap().remove("token");
    let shown = server.call(&format!("GET /{id}"), "").await;
    assert_eq!(shown.data(200), json!({ "token": expected }));
    let list = server.call("GET ?workspace_uuid=w-1", "").await;
    assert_eq!(list.data(200), json!({ "tokens": [expected], "total": 1 }));
    assert!(!shown.body.contains(secret) && !list.body.contains(secret));
}

#[tokio::test]
async fn creates_tokens_from_a_name_alone() {
    let server = Server::new().await;
    let created = server.create(json!({ "name": "x" })).await;
    let id = id(&created);
    let expected = json!({
        "uuid": id, "id": id, "name": "x", "description": "", "token": created["token"],
        "token_prefix": format!("svctok-{id}_"), "workspace_id": "default", "permissions": [],
        "scopes": [], "is_active": true, "expires_at": null,
        "created_at": "2027-01-15T08:00:00Z", "updated_at": "2027-01-15T08:00:00Z",
        "last_used_at": null,
    });
    assert_eq!(created, expected);
}

#[tokio::test]
async fn permissions_and_scopes_are_the_same_list() {
    let server = Server::new().await;
    for (given, expected) in [
        (json!({ "scopes": ["a:b"] }), json!(["a:b"])),
        (json!({ "permissions": ["a:b"] }), json!(["a:b"])),
        (
            json!({ "scopes": ["c", "a:b"], "permissions": ["a:b", "c"] }),
            json!(["a:b", "c"]),
        ),
        (
            json!({ "scopes": [], "permissions": ["a:b"] }),
            json!(["a:b"]),
        ),
        (
            json!({ "scopes": ["a:b"], "permissions": [] }),
            json!(["a:b"]),
        ),
        (
            json!({ "scopes": null, "permissions": ["a:b"] }),
            json!(["a:b"]),
        ),
    ] {
        let mut body = json!({ "name": "x" });
        let given = given.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(given);
        let created = server.create(body.clone()).await;
        assert_eq!(created["permissions"], expected, "{body}");
        assert_eq!(created["scopes"], expected, "{body}");
    }
    let differing = r#"{"name":"x","scopes":["a:b"],"permissions":["a:b","c"]}"#;
    let message = server.call("POST ", differing).await.assert_failed(422);
    assert!(message.contains("permissions"), "{message}");
}

#[tokio::test]
async fn accepts_every_form_of_expiry() {
    let server = Server::new().await;
    for (given, expected) in [
        (
            json!({ "expires_at": "2027-02-14T08:00:00Z" }),
            json!("2027-02-14T08:00:00Z"),
        ),
        (
            json!({ "expires_at": "2027-02-14T09:30:00.5+01:00" }),
            json!("2027-02-14T08:30:00.5Z"),
        ),
        (
            json!({ "expires_at": "2027-02-14" }),
            json!("2027-02-14T23:59:59Z"),
        ),
        (
            json!({ "expires_in": "30d" }),
            json!("2027-02-14T08:00:00Z"),
        ),
        (json!({ "expires_in": 30 }), json!("2027-02-14T08:00:00Z")),
        (
            json!({ "expires_in": "12h" }),
            json!("2027-01-15T20:00:00Z"),
        ),
        (
            json!({ "expires_in": i64::MAX }),
            json!("9999-12-31T23:59:59Z"),
        ),
        (
            json!({ "expires_in": null, "expires_at": null }),
            json!(null),
        ),
    ] {
        let mut body = given.clone();
        body["name"] = json!("x");
        let created = server.create(body).await;
        assert_eq!(created["expires_at"], expected, "{given}");
    }
    for bad in [
        json!({ "expires_in": 0 }),
        json!({ "expires_in": -1 }),
        json!({ "expires_in": 1.5 }),
        json!({ "expires_in": "30" }),
        json!({ "expires_in": "" }),
        json!({ "expires_at": "" }),
        json!({ "expires_at": "2027-01-15T08:00:00Z" }),
        json!({ "expires_at": 1_800_086_400 }),
        json!({ "expires_at": "2027-02-14", "expires_in": "30d" }),
    ] {
        let mut body = bad;
        body["name"] = json!("x");
        let response = server.call("POST ", &body.to_string()).await;
        let message = response.assert_failed(422);
        assert!(message.contains("expires_"), "{body}: {message}");
    }
}

#[tokio::test]
async fn rejects_invalid_creations_with_a_reason() {
    let server = Server::new().await;
    for bad in ["", "{", "[]", "null", r#"{"name":hush}"#] {
        let message = server.call("POST ", bad).await.assert_failed(400);
        assert!(!message.contains("hush"), "{message}");
    }
    for bad in [
        r#"{"name":"x","scopes":[],"scopes":["hush"]}"#,
        r#"{"name":"x","permissions":[],"permissions":["hush"]}"#,
        r#"{"name":"x","expires_in":"1d","expires_in":null}"#,
    ] {
        let message = server.call("POST ", bad).await.assert_failed(400);
        assert!(
            message.contains("twice") && !message.contains("hush"),
            "{message}"
        );
    }
    for (bad, pointer) in [
        ("{}", "/name"),
        (r#"{"name":"x","expiration":"2027-02-01"}"#, "/expiration"),
        (r#"{"name":"x","expires_in":[]}"#, "/expires_in"),
        (r#"{"name":"x","preset":5}"#, "/preset"),
        (r#"{"name":"x","preset":"full-access"}"#, "/preset"),
        (r#"{"name":"x","preset":"SDK"}"#, "/preset"),
        (r#"{"name":""}"#, "/name"),
        (r#"{"name":null}"#, "/name"),
        (r#"{"name":5}"#, "/name"),
        (r#"{"name":"x","description":[]}"#, "/description"),
        (r#"{"name":"x","permissions":"a:b"}"#, "/permissions"),
        (r#"{"name":"x","permissions":["a b"]}"#, "/permissions/0"),
        (
            r#"{"name":"x","scopes":[],"permissions":["a","a b"]}"#,
            "/permissions/1",
        ),
        (r#"{"name":"x","scopes":["a b"]}"#, "/scopes/0"),
        (
            r#"{"name":"x","permissions":[],"scopes":["a b"]}"#,
            "/scopes/0",
        ),
        (r#"{"name":"x","expires_in":"0d"}"#, "/expires_in"),
        (r#"{"name":"x","expires_in":-1}"#, "/expires_in"),
        (r#"{"name":"x","expires_at":"2020-01-01"}"#, "/expires_at"),
        (r#"{"name":"x","scopes":[5]}"#, "/scopes"),
        (r#"{"name":"x","roles":["r"]}"#, "/roles"),
        (r#"{"name":"x","is_active":false}"#, "/is_active"),
        (r#"{"name":"x","workspace_uuid":5}"#, "/workspace_uuid"),
        (r#"{"name":"x","workspace_uuid":"b"}"#, "/workspace_uuid"),
    ] {
        let message = server.call("POST ?workspace_uuid=a", bad).await;
        let message = message.assert_failed(422);
        assert!(message.contains(pointer), "{bad}: {message}");
    }
    let long = json!({ "name": "x".repeat(70_000) }).to_string();
    server.call("POST ", &long).await.assert_failed(413);
    let admin = format!("Bearer {}", server.managed.admin.expose_secret());
    for media_type in ["text/plain", "application/x-www-form-urlencoded"] {
        let headers = |request: http::request::Builder| {
            let request = request.header("authorization", &admin);
            request.header("content-type", media_type)
        };
        let call = format!("POST {TOKENS}");
        let response = ApiResponse::send(&server.app, &call, headers, r#"{"name":"x"}"#).await;
        response.assert_failed(415);
    }
    let all = server.call("GET ", "").await.data(200);
    assert_eq!(names(&all), ["admin"]);
}

#[tokio::test]
async fn updates_do_not_change_absent_members() {
    let server = Server::new().await;
    let before = server
        .create(json!({ "name": "x", "description": "d", "scopes": ["a:b"], "expires_in": 9 }))
        .await;
    let call = format!("PATCH /{}", id(&before));
    let mut expected = before.clone();
    expected.as_object_mut().unwrap().remove("token");
    for (body, changed) in [
        ("{}", json!({})),
        (r#"{"name":"y"}"#, json!({ "name": "y" })),
        (
            r#"{"name":"Updated Name","description":"Updated description"}"#,
            json!({ "name": "Updated Name", "description": "Updated description" }),
        ),
        (
            r#"{"name":null,"description":null,"permissions":null,"is_active":null}"#,
            json!({}),
        ),
        (
            r#"{"permissions":["c","d:e"]}"#,
            json!({ "permissions": ["c", "d:e"], "scopes": ["c", "d:e"] }),
        ),
        (r#"{"is_active":false}"#, json!({ "is_active": false })),
        (
            r#"{"name":"z","is_active":false}"#,
            json!({ "name": "z", "is_active": false }),
        ),
        (
            r#"{"name":"zz","permissions":["c"],"is_active":true}"#,
            json!({ "name": "zz", "permissions": ["c"], "scopes": ["c"], "is_active": true }),
        ),
        (r#"{"description":"e"}"#, json!({ "description": "e" })),
        (r#"{"description":""}"#, json!({ "description": "" })),
        (
            r#"{"permissions":[]}"#,
            json!({ "permissions": [], "scopes": [] }),
        ),
        (
            r#"{"expires_in":"1d"}"#,
            json!({ "expires_at": "2027-01-16T08:00:00Z" }),
        ),
    ] {
        let changed = changed.as_object().unwrap().clone();
        expected.as_object_mut().unwrap().extend(changed);
        let updated = server.call(&call, body).await.data(200);
        assert_eq!(updated, json!({ "token": expected }), "{body}");
        let is_active = expected["is_active"] == true;
        assert_eq!(server.works(&before).await, is_active, "{body}");
    }
    for bad in [
        r#"{"name":""}"#,
        r#"{"is_active":"no"}"#,
        r#"{"is_active":0}"#,
        r#"{"permissions":["a b"]}"#,
        r#"{"expires_at":"2020-01-01"}"#,
        r#"{"workspace_uuid":"w"}"#,
        r#"{"token":"mine"}"#,
        r#"{"preset":"full-access"}"#,
    ] {
        server.call(&call, bad).await.assert_failed(422);
    }
    let twice = r#"{"is_active":false,"is_active":true}"#;
    server.call(&call, twice).await.assert_failed(400);
    let after = server.call(&format!("GET /{}", id(&before)), "").await;
    assert_eq!(after.data(200)["token"], expected);
}

#[tokio::test]
async fn an_update_is_one_atomic_change() {
    let server = Server::new().await;
    let token = server.create(json!({ "name": "x" })).await;
    let number: TokenId = id(&token).parse().unwrap();
    let body = r#"{"name":"y","permissions":["a"],"is_active":false}"#;
    server
        .call(&format!("PATCH /{}", id(&token)), body)
        .await
        .data(200);
    let record = server.managed.tokens.get(number).await.unwrap();
    assert_eq!((record.revision(), record.name()), (2, "y"));
    assert_eq!(record.state(), TokenState::Disabled);
}

#[tokio::test]
async fn revoked_tokens_are_not_found() {
    let server = Server::new().await;
    let token = server.create(json!({ "name": "x" })).await;
    let path = format!("/{}", id(&token));
    for _ in 0..2 {
        let response = server.call(&format!("DELETE {path}"), "").await;
        assert_eq!(response.data(200), Value::Null);
        assert!(!server.works(&token).await);
    }
    for (call, body) in [
        ("GET", ""),
        ("PATCH", r#"{"name":"y"}"#),
        ("PATCH", r#"{"is_active":true}"#),
        ("PATCH", r#"{"is_active":false}"#),
    ] {
        let response = server.call(&format!("{call} {path}"), body).await;
        response.assert_failed(404);
    }
    let all = server.call("GET ", "").await.data(200);
    assert_eq!((names(&all), &all["total"]), (vec!["admin"], &json!(1)));
}

#[tokio::test]
async fn lists_all_tokens() {
    let server = Server::new().await;
    for _ in 0..1_001 {
        let new = NewToken::new("many").with_label("workspace", "w");
        let _ = server.managed.tokens.create(new).await.unwrap();
    }
    for (query, total) in [("", 1_002), ("?workspace_uuid=w", 1_001)] {
        let list = server.call(&format!("GET {query}"), "").await.data(200);
        assert_eq!(list["total"], total);
        assert_eq!(list["tokens"].as_array().unwrap().len(), total);
    }
}

#[tokio::test]
async fn filters_lists_by_workspace() {
    let server = Server::new().await;
    for (query, body) in [
        ("?workspace_uuid=w-1", r#"{"name":"a"}"#),
        ("", r#"{"name":"b","workspace_uuid":"w-2"}"#),
        ("?workspace_uuid=", r#"{"name":"c","workspace_uuid":""}"#),
        (
            "?workspace_uuid=w%201",
            r#"{"name":"d","workspace_uuid":"w 1"}"#,
        ),
    ] {
        server.call(&format!("POST {query}"), body).await.data(201);
    }
    for (query, expected) in [
        ("", &["a", "admin", "b", "c", "d"][..]),
        ("?workspace_uuid=", &["a", "admin", "b", "c", "d"]),
        ("?workspace_uuid=w-1", &["a"]),
        ("?workspace_uuid=w-2", &["b"]),
        ("?workspace_uuid=w%201", &["d"]),
        ("?workspace_uuid=w+1&workspace_uuid=w%201", &["d"]),
        // The administrator's token was not created through this API, so it has no label.
        ("?workspace_uuid=default", &["admin", "c"]),
        ("?workspace_uuid=unknown", &[]),
    ] {
        let list = server.call(&format!("GET {query}"), "").await.data(200);
        assert_eq!(names(&list), expected, "{query}");
        assert_eq!(list["total"], expected.len());
    }
    let response = server.call("GET ?workspace_uuid=a&workspace_uuid=b", "");
    response.await.assert_failed(422);
}

#[tokio::test]
async fn returns_the_default_workspace() {
    let Server { managed, .. } = Server::new().await;
    let api = PipeOpsApi::new(managed.tokens.clone(), managed.layer.clone());
    let app = Router::new().merge(api.with_default_workspace("team-a").into_router());
    let server = Server { managed, app };
    let plain = server.holder(&[]).await;
    let response = server.call_as(Some(&plain), "GET /workspace", "").await;
    assert_eq!(response.data(200)[0]["uuid"], "team-a");
    assert_eq!(response.data(200).as_array().unwrap().len(), 1);
    let token = server.create(json!({ "name": "x" })).await;
    assert_eq!(token["workspace_id"], "team-a");
    let list = server.call("GET ?workspace_uuid=team-a", "").await;
    assert_eq!(names(&list.data(200)), ["admin", "holder", "x"]);
}

/// Each call with a valid body, the scopes that allow it, and its status.
const CALLS: [(&str, &str, &[&str], u16); 6] = [
    ("GET /workspace", "", &["", "read", "write", "admin"], 200),
    ("GET ", "", &["read", "admin"], 200),
    ("POST ", r#"{"name":"x"}"#, &["write", "admin"], 201),
    ("GET /{uuid}", "", &["read", "admin"], 200),
    ("PATCH /{uuid}", r#"{"name":"y"}"#, &["write", "admin"], 200),
    ("DELETE /{uuid}", "", &["write", "admin"], 200),
];

#[tokio::test]
async fn each_call_requires_a_valid_token_and_its_scope() {
    for (call, body, allowed_scopes, good) in CALLS {
        let server = Server::new().await;
        let token = server.create(json!({ "name": "target" })).await;
        let call = call.replace("{uuid}", id(&token));
        for (bad, status) in [
            (None, 401),
            (
                Some("svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n"),
                401,
            ),
            (Some(&*"x".repeat(600)), 400),
        ] {
            for body in [body, "{"] {
                let response = server.call_as(bad, &call, body).await;
                response.assert_failed(status);
                let challenges = response.headers.get_all("www-authenticate");
                let has_bearer = challenges
                    .iter()
                    .any(|it| it.to_str().unwrap().starts_with("Bearer "));
                assert!(has_bearer, "{response:?}");
            }
        }
        for scope in ["", "read", "write", "admin"] {
            let scopes = match scope {
                "" => vec!["other:read".to_owned()],
                scope => vec![format!("service-tokens:{scope}")],
            };
            let scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
            let holder = server.holder(&scopes).await;
            let response = server.call_as(Some(&holder), &call, body).await;
            if allowed_scopes.contains(&scope) {
                response.data(good);
            } else {
                response.assert_failed(403);
                let response = server.call_as(Some(&holder), &call, "{").await;
                response.assert_failed(403);
            }
        }
    }
}

#[tokio::test]
async fn rejects_escalation() {
    let server = Server::new().await;
    let strong = server.create(json!({ "name": "s", "scopes": ["db:drop"] }));
    let strong = format!("/{}", id(&strong.await));
    let weak = server.create(json!({ "name": "w", "scopes": ["db:read"] }));
    let weak = format!("/{}", id(&weak.await));
    let minter = server.holder(&["service-tokens:write", "db:read"]).await;
    for (call, body) in [
        ("POST ", r#"{"name":"x","scopes":["db:drop"]}"#),
        ("POST ", r#"{"name":"x","permissions":["db:*","db:read"]}"#),
        ("POST ", r#"{"name":"x","scopes":["service-tokens:admin"]}"#),
        (&*format!("PATCH {weak}"), r#"{"permissions":["*"]}"#),
        (&format!("PATCH {weak}"), r#"{"scopes":["db:drop"]}"#),
        (&format!("PATCH {strong}"), r#"{"is_active":true}"#),
        (
            &format!("PATCH {strong}"),
            r#"{"name":"mine","is_active":true}"#,
        ),
        (&format!("PATCH {strong}"), r#"{"is_active":false}"#),
        (&format!("DELETE {strong}"), ""),
    ] {
        let response = server.call_as(Some(&minter), call, body).await;
        let message = response.assert_failed(403);
        assert!(message.contains("missing"), "{call} {body}: {message}");
    }
    for (call, body, status) in [
        ("POST ", r#"{"name":"x","scopes":["db:read"]}"#, 201),
        (&*format!("PATCH {weak}"), r#"{"name":"y"}"#, 200),
        (&format!("PATCH {weak}"), r#"{"is_active":false}"#, 200),
        (&format!("DELETE {weak}"), "", 200),
    ] {
        let response = server.call_as(Some(&minter), call, body).await;
        response.data(status);
    }
}

#[tokio::test]
async fn rejects_unknown_ids_and_other_methods() {
    let server = Server::new().await;
    for uuid in [
        "0000000000",
        "short",
        "%FF",
        "%00",
        "7Hq2mX9bT%C3%A9",
        "550e8400-e29b-41d4-a716-446655440000",
    ] {
        for (method, body) in [("GET", ""), ("PATCH", r#"{"name":"x"}"#), ("DELETE", "")] {
            let response = server.call(&format!("{method} /{uuid}"), body).await;
            response.assert_failed(404);
        }
    }
    for (call, allowed) in [
        ("PUT ", "GET,HEAD,POST"),
        ("DELETE ", "GET,HEAD,POST"),
        ("POST /0000000000", "DELETE,GET,HEAD,PATCH"),
        ("POST /workspace", "GET,HEAD"),
    ] {
        let response = server.call(call, "{}").await;
        response.assert_failed(405);
        let allow = response.headers["allow"].to_str().unwrap();
        let mut allow: Vec<_> = allow.split(',').collect();
        allow.sort_unstable();
        assert_eq!(allow.join(","), allowed, "{call}");
    }
}

#[tokio::test]
async fn store_failures_are_503_and_change_nothing() {
    let store = FaultyStore::new(MemoryStore::new());
    let server = Server::with_stores(MemoryStore::new(), store.clone()).await;
    let token = server.create(json!({ "name": "x" })).await;
    store.inject(Fault::Error);
    for (call, body, ..) in CALLS.iter().skip(1) {
        let call = call.replace("{uuid}", id(&token));
        let response = server.call(&call, body).await;
        response.assert_failed(503);
        assert!(response.headers.contains_key("retry-after"));
    }
    store.clear_fault();
    let list = server.call("GET ", "").await.data(200);
    assert_eq!((names(&list), &list["total"]), (vec!["x"], &json!(1)));
    // The lookup of the caller fails in the same way.
    let store = FaultyStore::new(MemoryStore::new());
    let ApiFixture { tokens, admin, .. } = ApiFixture::new(MemoryStore::new(), store.clone()).await;
    let layer = tower_service_token::ServiceTokenLayer::new(store.clone());
    store.inject(Fault::Error);
    let app = Router::new().merge(PipeOpsApi::new(tokens, layer).into_router());
    let headers = |request: http::request::Builder| {
        request.header("authorization", format!("Bearer {}", admin.expose_secret()))
    };
    let response = ApiResponse::send(&app, "GET /workspace", headers, "").await;
    response.assert_failed(503);
}

#[tokio::test]
async fn presets_grant_nothing_and_the_message_says_so() {
    let server = Server::new().await;
    for preset in ["sandbox", "mcp", "sdk", "platform"] {
        let body = json!({ "name": preset, "preset": preset }).to_string();
        let response = server.call("POST ", &body).await;
        assert_eq!(response.data(201)["token"]["scopes"], json!([]));
        let message = response.json()["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains(&format!("the preset {preset} grants nothing")),
            "{message}"
        );
    }
    for preset in [json!(null), json!("")] {
        let body = json!({ "name": "x", "preset": preset }).to_string();
        let response = server.call("POST ", &body).await;
        response.data(201);
        assert_eq!(response.json()["message"], "service account token created");
    }
}

#[tokio::test]
async fn messages_name_the_members_of_the_client() {
    let server = Server::new().await;
    let token = server.create(json!({ "name": "x" })).await;
    let update = format!("PATCH /{}", id(&token));
    let long = "w".repeat(201);
    let workspace = format!(r#"{{"name":"y","workspace_uuid":"{long}"}}"#);
    for (call, body, pointer, internal_name) in [
        ("POST ", &*workspace, "/workspace_uuid: ", "label"),
        (
            &update,
            r#"{"permissions":["a b"]}"#,
            "/permissions/0: ",
            "/scopes",
        ),
        (
            &update,
            r#"{"expires_in":"0d"}"#,
            "/expires_in: ",
            "expires_at",
        ),
        (
            &update,
            r#"{"expires_at":"2020-01-01"}"#,
            "/expires_at: ",
            "expires_in",
        ),
    ] {
        let message = server.call(call, body).await.assert_failed(422);
        assert!(message.starts_with(pointer), "{body}: {message}");
        assert!(!message.contains(internal_name), "{body}: {message}");
    }
}

#[tokio::test]
async fn lists_the_workspaces_of_tokens_after_the_default_one() {
    let server = Server::new().await;
    for workspace in ["w-2", "default", "w-1", "a", "w-1"] {
        server
            .create(json!({ "name": "x", "workspace_uuid": workspace }))
            .await;
    }
    let revoked = server
        .create(json!({ "name": "revoked", "workspace_uuid": "revoked" }))
        .await;
    server
        .call(&format!("DELETE /{}", id(&revoked)), "")
        .await
        .data(200);
    let uuids = |data: Value| -> Vec<String> {
        let workspaces = data.as_array().unwrap().iter();
        let uuid = |it: &Value| it["uuid"].as_str().unwrap().to_owned();
        workspaces.map(uuid).collect()
    };
    let all = ["default", "a", "w-1", "w-2"];
    let data = server.call("GET /workspace", "").await.data(200);
    assert_eq!(uuids(data), all);
    // Only a caller that may list tokens gets the workspaces of tokens.
    for (scope, expected) in [("read", &all[..]), ("write", &all[..1])] {
        let holder = server.holder(&[&format!("service-tokens:{scope}")]).await;
        let response = server.call_as(Some(&holder), "GET /workspace", "").await;
        assert_eq!(uuids(response.data(200)), expected, "{scope}");
    }
}

#[tokio::test]
async fn lists_workspaces_of_all_pages() {
    let server = Server::new().await;
    for number in 0..1_001 {
        let new = NewToken::new("many").with_label("workspace", format!("w-{number:04}"));
        let _ = server.managed.tokens.create(new).await.unwrap();
    }
    let data = server.call("GET /workspace", "").await.data(200);
    let data = data.as_array().unwrap();
    assert_eq!(data.len(), 1_002);
    assert_eq!(
        (&data[0]["uuid"], &data[1_001]["uuid"]),
        (&json!("default"), &json!("w-1000"))
    );
}

#[tokio::test]
async fn calls_with_another_workspace_are_404() {
    let server = Server::new().await;
    let labelled = server.create(json!({ "name": "x", "workspace_uuid": "w-1" }));
    let labelled = labelled.await;
    // This token was not created through this API, so it has no label.
    let plain = server.managed.tokens.create(NewToken::new("y")).await;
    let plain = plain.unwrap().record().id().to_string();
    let calls = [("GET", ""), ("PATCH", r#"{"name":"z"}"#), ("DELETE", "")];
    for (uuid, own) in [(id(&labelled), "w-1"), (&*plain, "default")] {
        for (method, body) in calls {
            for other in ["zz", "default", "w-1"] {
                if other != own {
                    let call = format!("{method} /{uuid}?workspace_uuid={other}");
                    server.call(&call, body).await.assert_failed(404);
                }
            }
            let two = format!("{method} /{uuid}?workspace_uuid={own}&workspace_uuid=zz");
            server.call(&two, body).await.assert_failed(422);
        }
        let record = server.managed.tokens.get(uuid.parse().unwrap()).await;
        assert_eq!(record.unwrap().revision(), 1);
        for (method, body) in calls {
            for query in ["", "?workspace_uuid=", &format!("?workspace_uuid={own}")] {
                let response = server.call(&format!("{method} /{uuid}{query}"), body).await;
                response.data(200);
            }
        }
        let record = server.managed.tokens.get(uuid.parse().unwrap()).await;
        assert_eq!(record.unwrap().state(), TokenState::Revoked);
    }
}

#[tokio::test]
async fn expired_tokens_are_not_active() {
    let server = Server::new().await;
    let token = server
        .create(json!({ "name": "x", "expires_in": "1s" }))
        .await;
    server.managed.clock.advance(Duration::from_secs(1));
    let call = format!("GET /{}", id(&token));
    let shown = server.call(&call, "").await.data(200)["token"].clone();
    assert_eq!(shown["is_active"], false);
    assert!(!server.works(&token).await);
    let listed = server.call("GET ", "").await.data(200);
    let listed = listed["tokens"].as_array().unwrap().iter();
    let listed: Vec<_> = listed.filter(|it| it["uuid"] == token["uuid"]).collect();
    assert_eq!(listed, [&shown]);
    let call = format!("PATCH /{}", id(&token));
    let response = server.call(&call, r#"{"is_active":true}"#).await;
    assert_eq!(response.data(200)["token"]["is_active"], false);
    assert!(
        response.json()["message"]
            .as_str()
            .unwrap()
            .contains("expired")
    );
    let response = server
        .call(&call, r#"{"is_active":true,"expires_in":"1d"}"#)
        .await;
    assert_eq!(response.data(200)["token"]["is_active"], true);
    assert!(server.works(&token).await);
    let call = format!("GET /{}", id(&token));
    let number: TokenId = id(&token).parse().unwrap();
    server.managed.tokens.disable(number).await.unwrap();
    let update = TokenUpdate::new().with_expiry("1d".parse().unwrap());
    server.managed.tokens.update(number, update).await.unwrap();
    let shown = server.call(&call, "").await.data(200)["token"].clone();
    assert_eq!(shown["is_active"], false);
}

/// A raw HTTP/1.1 connection that reads one response after another.
struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn open(server: &Server) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = server.app.clone();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    async fn send(&mut self, bytes: &str) {
        self.0.get_mut().write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Reads the head and the body of the next response.
    async fn receive(&mut self) -> (String, String) {
        timeout(READ_TIMEOUT, async {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                let read = self.0.read_line(&mut head).await.unwrap();
                assert!(read > 0, "closed after {head:?}");
            }
            let head = head.to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).expect("a length");
            let length = length.lines().next().unwrap().parse().unwrap();
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await.unwrap();
            (head, String::from_utf8(body).unwrap())
        })
        .await
        .expect("a response")
    }
}

/// Returns a request as the Go client sends it.
fn raw(method: &str, target: &str, token: &str, body: &str) -> String {
    let length = match body {
        "" => String::new(),
        body => format!("Content-Length: {}\r\n", body.len()),
    };
    format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: pipeops-go-sdk\r\n{length}\
         Accept: application/json\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn errors_keep_the_connection_alive() {
    let store = FaultyStore::new(MemoryStore::new());
    let server = Server::with_stores(MemoryStore::new(), store.clone()).await;
    let admin = server.managed.admin.expose_secret();
    let plain = server.managed.tokens.create(NewToken::new("plain")).await;
    let mut connection = Connection::open(&server).await;
    let missing = format!("{TOKENS}/0000000000");
    let create = r#"{"name":"GitHub Actions","permissions":["projects:write"]}"#;
    let padded = format!(r#"{{"name":"x"{}}}"#, " ".repeat(40_000));
    for (fault, request, status) in [
        (None, raw("GET", "/workspace", admin, ""), 200),
        (None, raw("POST", TOKENS, admin, create), 201),
        (None, raw("POST", TOKENS, "wrong", create), 401),
        (None, raw("POST", TOKENS, "wrong", &padded), 401),
        (
            None,
            raw("POST", TOKENS, plain.unwrap().expose_secret(), create),
            401,
        ),
        (None, raw("POST", TOKENS, admin, "{"), 400),
        (None, raw("POST", TOKENS, admin, "{}"), 422),
        (None, raw("GET", &missing, admin, ""), 404),
        (None, raw("PATCH", &missing, admin, r#"{"nmae":"x"}"#), 422),
        (None, raw("PATCH", &missing, admin, r#"{"name":"x"}"#), 404),
        (None, raw("PUT", TOKENS, admin, create), 405),
        (Some(Fault::Error), raw("POST", TOKENS, admin, create), 503),
        (Some(Fault::Error), raw("GET", TOKENS, admin, ""), 503),
        (None, raw("GET", TOKENS, admin, ""), 200),
    ] {
        store.clear_fault();
        if let Some(fault) = fault {
            store.inject(fault);
        }
        connection.send(&request).await;
        let (head, body) = connection.receive().await;
        let expected = format!("http/1.1 {status} ");
        assert!(head.starts_with(&expected), "{request}\n{head}\n{body}");
        assert!(!head.contains("\r\nconnection: close"), "{head}");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["success"], status < 300);
    }
}

#[tokio::test]
async fn early_rejections_keep_the_connection_alive() {
    let server = Server::new().await;
    let mut connection = Connection::open(&server).await;
    let body = r#"{"name":"x"}"#;
    for _ in 0..3 {
        let request = raw("POST", TOKENS, "wrong", body);
        let (head, body) = request.split_at(request.len() - body.len());
        connection.send(head).await;
        // Lets the server read the head, and possibly reject it, before the body arrives.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        connection.send(body).await;
        let (head, _) = connection.receive().await;
        assert!(head.starts_with("http/1.1 401 "), "{head}");
        assert!(!head.contains("\r\nconnection: close"), "{head}");
    }
}
