//! The holder of a token with an owner, in every API: it sees and changes only the tokens of its owner.

use axum::Router;
use http::request::Builder;
use serde_json::{Value, json};
use tests::api_fixture::{ApiFixture, ApiResponse};
use tower_service_token::MemoryStore;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::api::oauth::OAuthEndpoints;
use tower_service_token::api::pipeops::PipeOpsApi;
use tower_service_token::api::stackstate::StackStateApi;
use tower_service_token::lifecycle::{IssuedToken, NewToken};

struct Server {
    managed: ApiFixture,
    app: Router,
    /// Of `user:1`.
    holder: IssuedToken,
    own: IssuedToken,
    foreign: IssuedToken,
    unowned: IssuedToken,
}

impl Server {
    async fn new() -> Self {
        let store = MemoryStore::new();
        let managed = ApiFixture::new(store.clone(), store).await;
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
        let create = async |new: NewToken| tokens.create(new).await.unwrap();
        let new = |name: &str| NewToken::new(name).with_scopes(["a:b"]);
        Self {
            holder: create(new("holder").with_owner("user:1").with_scopes(["**"])).await,
            own: create(new("own").with_owner("user:1")).await,
            foreign: create(
                new("foreign")
                    .with_owner("user:2")
                    .with_label("workspace", "w2"),
            )
            .await,
            unowned: create(new("unowned").with_label("workspace", "w3")).await,
            app,
            managed,
        }
    }

    async fn call(&self, call: &str, body: &str) -> ApiResponse {
        self.call_as(&self.holder, call, body).await
    }

    async fn call_as(&self, caller: &IssuedToken, call: &str, body: &str) -> ApiResponse {
        let media_type = match call {
            "POST /introspect" => "application/x-www-form-urlencoded",
            _ => "application/json",
        };
        let headers = |request: Builder| {
            let request = request.header("x-api-key", caller.expose_secret());
            match body {
                "" => request,
                _ => request.header("content-type", media_type),
            }
        };
        ApiResponse::send(&self.app, call, headers, body).await
    }

    /// Checks that no call changed these tokens.
    async fn assert_unchanged(&self) {
        for token in [&self.foreign, &self.unowned] {
            let record = self.managed.tokens.get(token.record().id()).await.unwrap();
            assert_eq!(record.revision(), 1, "{record:?}");
        }
    }
}

fn names(list: &Value) -> Vec<&str> {
    let tokens = list.as_array().unwrap().iter();
    let mut names: Vec<_> = tokens.map(|it| it["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn management_api_confines_holders_of_owned_tokens() {
    let server = Server::new().await;
    for (query, expected) in [
        ("", &["holder", "own"][..]),
        ("?owner=user:1", &["holder", "own"]),
        ("?owner=user:2", &[]),
        ("?name=foreign", &[]),
        ("?scope=a:b&without_revoked=true", &["own"]),
    ] {
        let listed = server
            .call(&format!("GET /service-tokens{query}"), "")
            .await;
        let listed = listed.json();
        assert_eq!(names(&listed["service_tokens"]), expected, "{query}");
    }
    let own = server.own.record().id();
    let shown = server.call(&format!("GET /service-tokens/{own}"), "").await;
    assert_eq!(shown.json()["owner"], "user:1");
    let itself = server.call("GET /service-tokens/self", "").await;
    assert_eq!(itself.json()["name"], "holder");

    for id in [server.foreign.record().id(), server.unowned.record().id()] {
        for (call, body) in [
            ("GET {id}", ""),
            ("PATCH {id}", r#"{"name":"x"}"#),
            ("POST {id}/rotate", "{}"),
            ("POST {id}/disable", ""),
            ("POST {id}/enable", ""),
            ("DELETE {id}", ""),
        ] {
            let (method, path) = call.split_once(' ').unwrap();
            let path = path.replace("{id}", &id.to_string());
            let call = format!("{method} /service-tokens/{path}");
            let response = server.call(&call, body).await;
            assert_eq!(response.status, 404, "{call}: {response:?}");
            assert_eq!(response.json()["code"], "not_found", "{call}");
        }
    }
    let dry_run = json!({ "dry_run": true }).to_string();
    let preview = server.call("POST /service-tokens/revoke", &dry_run).await;
    assert_eq!(preview.json()["count"], 2);
    server.assert_unchanged().await;
}

#[tokio::test]
async fn management_api_sets_the_owner() {
    let server = Server::new().await;
    let created = server
        .call("POST /service-tokens", r#"{"name":"made"}"#)
        .await;
    assert_eq!(created.json()["service_token"]["owner"], "user:1");
    let foreign = r#"{"name":"made","owner":"user:2"}"#;
    let own = format!("PATCH /service-tokens/{}", server.own.record().id());
    for (call, body) in [
        ("POST /service-tokens", foreign),
        (&own, r#"{"owner":"user:2"}"#),
        (&own, r#"{"owner":null}"#),
    ] {
        let response = server.call(call, body).await;
        assert_eq!(response.status, 422, "{call} {body}: {response:?}");
        assert_eq!(response.json()["errors"][0]["pointer"], "/owner");
    }
    let admin = &server.managed.admin;
    let created = server.call_as(admin, "POST /service-tokens", foreign).await;
    assert_eq!(created.json()["service_token"]["owner"], "user:2");
    for (body, owner) in [
        (r#"{"owner":"user:3"}"#, json!("user:3")),
        (r#"{"owner":null}"#, Value::Null),
    ] {
        let updated = server.call_as(admin, &own, body).await;
        assert_eq!(updated.json()["owner"], owner);
    }
    let numeric = server.call_as(admin, &own, r#"{"owner":7}"#).await;
    assert_eq!(numeric.status, 422, "{numeric:?}");
}

#[tokio::test]
async fn management_api_sets_no_owner_without_the_scope_of_an_administrator() {
    let server = Server::new().await;
    let scopes = ["projects:read", "service-tokens:write"];
    let writer = server.managed.holder(&scopes).await;
    let target = server.managed.holder(&["projects:read"]).await;
    let path = format!("PATCH /service-tokens/{}", target.record().id());
    for (call, body) in [
        (
            "POST /service-tokens",
            r#"{"name":"made","owner":"user:1"}"#,
        ),
        (&path, r#"{"owner":"user:1"}"#),
    ] {
        let response = server.call_as(&writer, call, body).await;
        assert_eq!(response.status, 403, "{call}: {response:?}");
        let problem = response.json();
        assert_eq!(problem["code"], "escalation_denied");
        assert_eq!(problem["missing"], json!(["service-tokens:admin"]));
    }
    let renamed = r#"{"name":"renamed"}"#;
    let renamed = server.call_as(&writer, &path, renamed).await;
    assert_eq!(renamed.status, 200, "{renamed:?}");
    let given = r#"{"owner":"user:1"}"#;
    let given = server.call_as(&server.managed.admin, &path, given).await;
    let given = given.json();
    assert_eq!(
        (&given["owner"], &given["created_by"]),
        (&json!("user:1"), &Value::Null)
    );
}

#[tokio::test]
async fn lists_leave_out_revoked_tokens_on_request() {
    let server = Server::new().await;
    let admin = &server.managed.admin;
    let id = server.foreign.record().id();
    server.managed.tokens.revoke(id).await.unwrap();
    for (query, count) in [
        ("", 5),
        ("?without_revoked=false", 5),
        ("?without_revoked=true", 4),
    ] {
        let call = format!("GET /service-tokens{query}");
        let listed = server.call_as(admin, &call, "").await.json();
        assert_eq!(names(&listed["service_tokens"]).len(), count, "{query}");
    }
    for value in ["", "1", "TRUE", "null"] {
        let call = format!("GET /service-tokens?without_revoked={value}");
        let response = server.call_as(admin, &call, "").await;
        assert_eq!(response.status, 422, "{response:?}");
        assert_eq!(response.json()["errors"][0]["pointer"], "/without_revoked");
    }
    let filter = json!({ "filter": { "without_revoked": "true" }, "dry_run": true });
    let response = server
        .call_as(admin, "POST /service-tokens/revoke", &filter.to_string())
        .await;
    assert_eq!(response.status, 422, "{response:?}");
}

#[tokio::test]
async fn dialects_confine_holders_of_owned_tokens() {
    let server = Server::new().await;
    let stackstate = server.call("GET /api/security/tokens", "").await.json();
    assert_eq!(names(&stackstate), ["holder", "own"]);
    let pipeops = server
        .call("GET /api/v1/service-account-tokens", "")
        .await
        .json();
    assert_eq!(names(&pipeops["data"]["tokens"]), ["holder", "own"]);
    let shown = pipeops.to_string() + &stackstate.to_string();
    assert!(!shown.contains("user:1"), "{shown}");
    let workspaces = server.call("GET /workspace", "").await.body;
    assert!(
        !workspaces.contains("w2") && !workspaces.contains("w3"),
        "{workspaces}"
    );
    let all = server
        .call_as(&server.managed.admin, "GET /workspace", "")
        .await
        .body;
    assert!(all.contains("w2") && all.contains("w3"), "{all}");

    for token in [&server.foreign, &server.unowned] {
        let id = token.record().id();
        for (call, body) in [
            (format!("DELETE /api/security/tokens/{}", id.number()), ""),
            (format!("GET /api/v1/service-account-tokens/{id}"), ""),
            (
                format!("PATCH /api/v1/service-account-tokens/{id}"),
                r#"{"name":"x"}"#,
            ),
            (format!("DELETE /api/v1/service-account-tokens/{id}"), ""),
        ] {
            let response = server.call(&call, body).await;
            assert_eq!(response.status, 404, "{call}: {response:?}");
        }
    }
    let own = server.own.record().id();
    let call = format!("DELETE /api/security/tokens/{}", own.number());
    assert_eq!(server.call(&call, "").await.status, 204);
    server.assert_unchanged().await;
}

#[tokio::test]
async fn introspection_confines_holders_of_owned_tokens() {
    let server = Server::new().await;
    let introspect = async |caller: &IssuedToken, token: &IssuedToken| {
        let body = format!("token={}", token.expose_secret());
        let response = server.call_as(caller, "POST /introspect", &body).await;
        assert_eq!(response.status, 200, "{response:?}");
        response.body
    };
    for token in [&server.foreign, &server.unowned] {
        let body = introspect(&server.holder, token).await;
        assert_eq!(body, r#"{"active":false}"#);
    }
    let own: Value = serde_json::from_str(&introspect(&server.holder, &server.own).await).unwrap();
    assert_eq!(
        (&own["active"], &own["owner"]),
        (&json!(true), &json!("user:1"))
    );
    let operator = NewToken::new("resource server").with_scopes(["introspect"]);
    let operator = server.managed.tokens.create(operator).await.unwrap();
    let foreign = introspect(&operator, &server.foreign).await;
    assert!(foreign.contains(r#""owner":"user:2""#), "{foreign}");
    let unowned = introspect(&operator, &server.unowned).await;
    assert!(
        unowned.contains(r#""active":true"#) && !unowned.contains("owner\":"),
        "{unowned}"
    );
}
