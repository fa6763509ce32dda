//! Rules of the dialects and OAuth endpoints: `If-Match`, authorization before disclosure, and unknown
//! paths.

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
use tower_service_token::store::{TokenRecord, TokenState};

const PIPEOPS: &str = "/api/v1/service-account-tokens";
const STACKSTATE: &str = "/api/security/tokens";

struct Server {
    managed: ApiFixture,
    app: Router,
}

impl Server {
    async fn new() -> Self {
        let store = MemoryStore::new();
        let managed = ApiFixture::new(store.clone(), store).await;
        let ApiFixture { tokens, layer, .. } = &managed;
        let stackstate = StackStateApi::new(tokens.clone(), layer.clone());
        let pipeops = PipeOpsApi::new(tokens.clone(), layer.clone());
        let oauth = OAuthEndpoints::new(tokens.clone(), layer.clone());
        let app = Router::new()
            .merge(ManagementApi::new(tokens.clone(), layer.clone()).into_router())
            .merge(oauth.into_router())
            .nest("/api", stackstate.into_router())
            .merge(pipeops.into_router());
        Self { managed, app }
    }

    /// Creates a token with a role, a scope and the label of a workspace.
    async fn target(&self) -> IssuedToken {
        let new = NewToken::new("target")
            .with_roles(["r"])
            .with_scopes(["a:b"])
            .with_label("workspace", "team-a");
        self.managed.tokens.create(new).await.unwrap()
    }

    async fn record(&self, token: &IssuedToken) -> TokenRecord {
        let id = token.record().id();
        self.managed.tokens.get(id).await.unwrap()
    }

    async fn call_as(
        &self,
        caller: &str,
        call: &str,
        if_match: Option<&str>,
        body: &str,
    ) -> ApiResponse {
        let headers = |mut request: Builder| {
            if let Some(tags) = if_match {
                request = request.header("if-match", tags);
            }
            let media_type = if call.ends_with("/revoke") {
                "application/x-www-form-urlencoded"
            } else {
                "application/json"
            };
            request
                .header("x-api-key", caller)
                .header("content-type", media_type)
        };
        ApiResponse::send(&self.app, call, headers, body).await
    }

    async fn call(&self, call: &str, if_match: Option<&str>, body: &str) -> ApiResponse {
        let admin = self.managed.admin.expose_secret();
        self.call_as(admin, call, if_match, body).await
    }
}

/// Each change of a token in the dialects, and its status where it succeeds.
fn changes(target: &TokenRecord) -> [(String, &'static str, u16); 4] {
    let (id, number) = (target.id(), target.id().number());
    [
        (format!("PATCH {PIPEOPS}/{id}"), r#"{"name":"new"}"#, 200),
        (
            format!("PATCH {PIPEOPS}/{id}"),
            r#"{"is_active":false}"#,
            200,
        ),
        (format!("DELETE {PIPEOPS}/{id}"), "", 200),
        (format!("DELETE {STACKSTATE}/{number}"), "", 204),
    ]
}

#[tokio::test]
async fn if_match_protects_every_dialect_change() {
    let server = Server::new().await;
    for index in 0..4 {
        let target = server.target().await;
        let (call, body, status) = changes(target.record())[index].clone();
        for stale in ["\"2\"", "W/\"1\"", "\"01\"", "\"x\", \"7\""] {
            let response = server.call(&call, Some(stale), body).await;
            assert_eq!(response.status, 412, "{call} {stale}: {response:?}");
            let message = response.json()["message"].clone();
            assert_eq!(message, "the token was changed since it was read");
        }
        for malformed in ["1", "", "\"1"] {
            let response = server.call(&call, Some(malformed), body).await;
            assert_eq!(response.status, 400, "{call} {malformed}: {response:?}");
            let message = response.json()["message"].clone();
            assert_eq!(message, "If-Match is not a list of entity tags");
        }
        let unchanged = server.record(&target).await;
        assert_eq!(unchanged.revision(), 1, "{call}");
        assert_eq!(unchanged.state(), TokenState::Active, "{call}");
        let response = server.call(&call, Some("\"7\", \"1\""), body).await;
        assert_eq!(response.status, status, "{call}: {response:?}");
        assert_eq!(server.record(&target).await.revision(), 2, "{call}");
        if status == 200 && !call.starts_with("DELETE") {
            let response = server.call(&call, Some("*"), body).await;
            assert_eq!(response.status, 200, "{call}: {response:?}");
        }
    }
}

#[tokio::test]
async fn pipeops_shows_the_revision_as_etag() {
    let server = Server::new().await;
    let created = server
        .call(&format!("POST {PIPEOPS}"), None, r#"{"name":"x"}"#)
        .await;
    assert_eq!(
        (created.status, &created.headers["etag"]),
        (201, &"\"1\"".parse().unwrap())
    );
    let id = created.json()["data"]["token"]["uuid"].clone();
    let path = format!("{PIPEOPS}/{}", id.as_str().unwrap());
    let etag = async || {
        let found = server.call(&format!("GET {path}"), None, "").await;
        found.headers["etag"].to_str().unwrap().to_owned()
    };
    let first = etag().await;
    let call = format!("PATCH {path}");
    let changed = server.call(&call, Some(&first), r#"{"name":"y"}"#).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(changed.headers["etag"], etag().await.as_str());
    let stale = server.call(&call, Some(&first), r#"{"name":"z"}"#).await;
    assert_eq!(stale.status, 412, "{stale:?}");
}

/// A creation has no token yet, and `/revoke` names it in the body, so neither has an entity tag.
#[tokio::test]
async fn if_match_never_matches_creations_or_oauth_revocations() {
    let server = Server::new().await;
    let target = server.target().await;
    let form = format!("token={}", target.expose_secret());
    let count = async || {
        let listed = server.call(&format!("GET {STACKSTATE}"), None, "").await;
        listed.json().as_array().unwrap().len()
    };
    for (call, body) in [
        (format!("POST {STACKSTATE}"), r#"{"name":"x"}"#),
        (format!("POST {PIPEOPS}"), r#"{"name":"x"}"#),
        ("POST /revoke".to_owned(), &*form),
    ] {
        let before = count().await;
        for (tags, status) in [("\"1\"", 412), ("W/\"1\"", 412), ("1", 400)] {
            let response = server.call(&call, Some(tags), body).await;
            assert_eq!(response.status, status, "{call} {tags}: {response:?}");
            if call == "POST /revoke" {
                assert_eq!(response.json(), json!({ "error": "invalid_request" }));
            } else {
                assert!(response.json()["message"].as_str().unwrap().contains("tag"));
            }
        }
        assert_eq!(server.record(&target).await.state(), TokenState::Active);
        assert_eq!(count().await, before, "{call}");
        let response = server.call(&call, Some("*"), body).await;
        assert!(response.status < 300, "{call}: {response:?}");
    }
    assert_eq!(server.record(&target).await.state(), TokenState::Revoked);
    // The administrator and two created tokens. The list omits the revoked target.
    assert_eq!(count().await, 3);
}

/// The response is the same 403, whatever the target's workspace and state.
#[tokio::test]
async fn uncovered_callers_cannot_probe_workspace_or_state() {
    let server = Server::new().await;
    let writer = server.managed.holder(&["service-tokens:write"]).await;
    let writer = writer.expose_secret();
    for state in [TokenState::Active, TokenState::Revoked] {
        let target = server.target().await;
        if state == TokenState::Revoked {
            let tokens = &server.managed.tokens;
            drop(tokens.revoke(target.record().id()).await.unwrap());
        }
        for (call, body, _) in changes(target.record()) {
            let queries: &[_] = if call.contains(PIPEOPS) {
                &["", "?workspace_uuid=team-a", "?workspace_uuid=team-b"]
            } else {
                &[""]
            };
            for query in queries {
                let call = format!("{call}{query}");
                let response = server.call_as(writer, &call, None, body).await;
                assert_eq!(response.status, 403, "{state:?} {call}: {response:?}");
                assert_eq!(response.json()["missing"], json!(["r", "a:b"]), "{call}");
            }
        }
    }
}

#[tokio::test]
async fn denied_escalations_name_what_is_missing_in_every_api() {
    let server = Server::new().await;
    let target = server.target().await;
    let scopes = ["service-tokens:write", "a:*"];
    let writer = server.managed.holder(&scopes).await;
    let id = target.record().id();
    let mut calls = changes(target.record())
        .map(|(call, body, _)| (call, body))
        .to_vec();
    calls.push((
        format!("POST {STACKSTATE}"),
        r#"{"name":"x","roles":["r"]}"#,
    ));
    calls.push((format!("DELETE /service-tokens/{id}"), ""));
    for (call, body) in calls {
        let response = server
            .call_as(writer.expose_secret(), &call, None, body)
            .await;
        assert_eq!(response.status, 403, "{call}: {response:?}");
        assert_eq!(response.json()["missing"], json!(["r"]), "{call}");
    }
    let body = r#"{"name":"x","permissions":["a:b","c:d"]}"#;
    let call = format!("POST {PIPEOPS}");
    let response = server
        .call_as(writer.expose_secret(), &call, None, body)
        .await;
    assert_eq!(
        (response.status, &response.json()["missing"]),
        (403, &json!(["c:d"]))
    );
    // Other errors have no such member.
    let response = server
        .call(&format!("DELETE {STACKSTATE}/1"), None, "")
        .await;
    assert_eq!(
        (response.status, response.json().get("missing")),
        (404, None)
    );
    let response = server.call(&format!("POST {PIPEOPS}"), None, "{}").await;
    assert_eq!(
        (response.status, response.json().get("missing")),
        (422, None)
    );
}

#[tokio::test]
async fn unknown_paths_below_pipeops_prefixes_get_pipeops_errors() {
    let server = Server::new().await;
    let message = "there is no such path";
    let expected: Value = json!({ "success": false, "status": "error", "message": message });
    for method in ["GET", "POST", "DELETE"] {
        for path in [
            "/api/v1",
            "/api/v1/",
            "/api/v1//",
            "/workspace/",
            "/workspace/x",
            "/workspace/x/y",
        ] {
            let response = server.call(&format!("{method} {path}"), None, "{}").await;
            assert_eq!(response.status, 404, "{method} {path}: {response:?}");
            assert_eq!(response.headers["content-type"], "application/json");
            assert_eq!(response.json(), expected, "{method} {path}");
        }
    }
    let response = server.call("GET /workspace", None, "").await;
    assert_eq!(response.status, 200, "{response:?}");
    let response = server.call("GET /workspaces", None, "").await;
    assert_eq!((response.status, &*response.body), (404, ""));
}

#[tokio::test]
async fn app_routes_take_precedence_below_workspace() {
    let store = MemoryStore::new();
    let ApiFixture { tokens, layer, .. } = ApiFixture::new(store.clone(), store).await;
    let own = Router::new()
        .route("/jobs/{id}", axum::routing::get(async || "a job"))
        .route("/{*rest}", axum::routing::get(async || "the rest"));
    let app: Router = Router::new()
        .merge(PipeOpsApi::new(tokens, layer).into_router())
        .nest("/workspace", own);
    for (path, expected) in [("/workspace/jobs/7", "a job"), ("/workspace/7", "the rest")] {
        let response = ApiResponse::send(&app, &format!("GET {path}"), |it| it, "").await;
        assert_eq!(
            (response.status, &*response.body),
            (200, expected),
            "{path}"
        );
    }
}
