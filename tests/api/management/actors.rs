//! Actors that the application determines, instead of service tokens.

use std::future::ready;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use axum::response::Redirect;
use axum::{Extension, Router};
use futures::stream;
use http::request::{Builder, Parts};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tests::api_fixture::{ApiFixture, ApiResponse};
use tower_service_token::api::management::ManagementApi;
use tower_service_token::audit::{AuditEvent, AuditSink};
use tower_service_token::lifecycle::{
    Actor, CallbackError, Holder, IssuedToken, NewToken, Operator, Owner, TokenPolicy, TokenUpdate,
};
use tower_service_token::limits::ClientAddress;
use tower_service_token::openapi::SecuritySchemes;
use tower_service_token::principal::Requirement;
use tower_service_token::registry::TokenFilter;
use tower_service_token::store::Credential;
use tower_service_token::token::PresentedToken;
use tower_service_token::{MemoryStore, Principal, ServiceTokens};

use crate::management::ManagementResponse;

/// Each change, with a body that it accepts.
pub(super) const CHANGES: [(&str, &str); 8] = [
    ("POST /service-tokens", r#"{"name":"new"}"#),
    ("PATCH /service-tokens/{id}", r#"{"name":"renamed"}"#),
    ("POST /service-tokens/{id}/rotate", ""),
    ("POST /service-tokens/{id}/rotate", r#"{"grace":"1h"}"#),
    ("POST /service-tokens/{id}/disable", ""),
    ("POST /service-tokens/{id}/enable", ""),
    ("DELETE /service-tokens/{id}", ""),
    ("POST /service-tokens/revoke", r#"{"expect":1}"#),
];

const CHECK_UNAVAILABLE: &str =
    "the login of the caller cannot be checked at the moment; nothing was changed";

const POLICIES_UNAVAILABLE: &str =
    "the limits of the owner cannot be read at the moment; nothing was changed";

/// Asserts that the response reports an outage of the check of the caller, also of a read.
#[track_caller]
fn assert_check_unavailable(call: &str, response: &ApiResponse) {
    let problem = response.assert_error(503, "auth_unavailable");
    assert_eq!(problem["detail"], CHECK_UNAVAILABLE, "{call}");
    assert!(response.header("retry-after").is_some(), "{call}");
}

const READS: [&str; 2] = ["GET /service-tokens", "GET /service-tokens/{id}"];

#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<AuditEvent>>>);

impl AuditSink for Events {
    fn record(&self, event: &AuditEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

/// The session of `user:1`.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum Session {
    #[default]
    Open,
    /// It ends as soon as the actor is determined.
    Ends,
    /// As soon as the actor is determined, its store does not respond.
    Fails,
    /// As soon as the actor is determined, it is a session of `user:2`.
    Changes,
}

/// The actor of the header `user`.
pub(super) fn owner(parts: &Parts, session: Session) -> Result<Owner, Redirect> {
    let user = parts.headers.get("user");
    let user = user.ok_or_else(|| Redirect::to("/login"))?;
    let id = user.to_str().unwrap().to_owned();
    let owner = |id: &str| Owner::new(id).with_scopes(["projects:*"]);
    let checked = owner(&id);
    Ok(owner(&id).with_check(move || {
        ready(match session {
            Session::Open => Ok(Some(checked.clone())),
            Session::Ends => Ok(None),
            Session::Fails => Err(CallbackError::unavailable("no response")),
            Session::Changes => Ok(Some(owner("user:2"))),
        })
    }))
}

pub(super) struct Server {
    managed: ApiFixture,
    events: Events,
    pub(super) app: Router,
    pub(super) own: IssuedToken,
    foreign: IssuedToken,
    unowned: IssuedToken,
}

impl Server {
    pub(super) async fn new() -> Self {
        Self::with_session(Session::Open).await
    }

    async fn with_session(session: Session) -> Self {
        Self::with(|tokens| {
            ManagementApi::for_actor(tokens, move |parts| ready(owner(parts, session)))
        })
        .await
    }

    async fn with_actor(actor: impl Into<Actor>) -> Self {
        let actor = actor.into();
        Self::with(|tokens| {
            ManagementApi::for_actor(tokens, move |_| ready(Ok::<_, StatusCode>(actor.clone())))
        })
        .await
    }

    pub(super) async fn with(api: impl FnOnce(ServiceTokens) -> ManagementApi) -> Self {
        let (store, events) = (MemoryStore::new(), Events::default());
        let managed = ApiFixture::new(store.clone(), store).await;
        let create = async |name: &str, owner: Option<&str>| {
            let new = NewToken::new(name).with_scopes(["projects:read"]);
            let new = owner.into_iter().fold(new, NewToken::with_owner);
            managed.tokens.create(new).await.unwrap()
        };
        let tokens = managed.tokens.clone().with_audit_sink(events.clone());
        Self {
            own: create("own", Some("user:1")).await,
            foreign: create("foreign", Some("user:2")).await,
            unowned: create("unowned", None).await,
            app: api(tokens).into_router(),
            managed,
            events,
        }
    }

    /// Sends a call about the user's own token.
    async fn call(&self, user: &str, call: &str, body: &str) -> ApiResponse {
        let call = call.replace("{id}", &self.own.record().id().to_string());
        self.send(&call, |request| request.header("user", user), body)
            .await
    }

    pub(super) async fn send(
        &self,
        call: &str,
        build: impl FnOnce(Builder) -> Builder,
        body: &str,
    ) -> ApiResponse {
        let build = |request: Builder| match body {
            "" => build(request),
            _ => build(request).header("content-type", "application/json"),
        };
        ApiResponse::send(&self.app, call, build, body).await
    }

    /// Checks that no call created or changed a token.
    pub(super) async fn assert_unchanged(&self, call: &str) {
        let count = self.managed.tokens.count(TokenFilter::new()).await;
        assert_eq!(count.unwrap(), 4, "{call}");
        for token in [&self.own, &self.foreign, &self.unowned] {
            let record = self.managed.tokens.get(token.record().id()).await.unwrap();
            assert_eq!(record.revision(), 1, "{call}: {record:?}");
        }
        assert_eq!(self.events.0.lock().unwrap().len(), 0, "{call}");
    }
}

fn names(list: &ApiResponse) -> Vec<String> {
    let list = list.json();
    let tokens = list["service_tokens"].as_array().unwrap().iter();
    let name = |token: &Value| token["name"].as_str().unwrap().to_owned();
    tokens.map(name).collect()
}

#[tokio::test]
async fn owners_manage_their_own_tokens() {
    let server = Server::new().await;
    for (call, body) in CHANGES {
        let response = server.call("user:1", call, body).await;
        assert!(response.status < 300, "{call}: {response:?}");
        let events = std::mem::take(&mut *server.events.0.lock().unwrap());
        for event in events {
            assert_eq!(event.actor(), "owner:user:1", "{call}");
        }
    }
    let created = server
        .call("user:3", "POST /service-tokens", r#"{"name":"x"}"#)
        .await;
    assert_eq!(created.json()["service_token"]["owner"], "user:3");
    assert_eq!(
        created.json()["service_token"]["created_by"],
        "owner:user:3"
    );
    let listed = server.call("user:3", "GET /service-tokens", "").await;
    assert_eq!(names(&listed), ["x"]);
}

#[tokio::test]
async fn tokens_of_others_are_not_found() {
    let server = Server::new().await;
    for id in [server.foreign.record().id(), server.unowned.record().id()] {
        for call in CHANGES.map(|it| it.0).iter().chain(&READS) {
            if !call.contains("{id}") {
                continue;
            }
            let body = CHANGES.iter().find(|it| it.0 == *call);
            let call = call.replace("{id}", &id.to_string());
            let body = body.map_or("", |it| it.1);
            let response = server.call("user:1", &call, body).await;
            response.assert_error(404, "not_found");
        }
    }
    let bulk = r#"{"filter":{"owner":"user:2"},"expect":0}"#;
    let revoked = server.call("user:1", "POST /service-tokens/revoke", bulk);
    assert_eq!(revoked.await.json()["revoked"], 0);
    let listed = server.call("user:1", "GET /service-tokens", "").await;
    assert_eq!(names(&listed), ["own"]);
    server.assert_unchanged("all").await;
}

#[tokio::test]
async fn has_no_routes_for_the_callers_own_token() {
    let server = Server::with_actor(Operator::new("root")).await;
    for call in [
        "GET /service-tokens/self",
        "DELETE /service-tokens/self",
        "POST /service-tokens/self/rotate",
    ] {
        let response = server.call("user:1", call, "").await;
        response.assert_error(404, "not_found");
    }
}

#[tokio::test]
async fn the_response_of_the_application_precedes_the_body() {
    let server = Server::new().await;
    for call in CHANGES.map(|it| it.0).iter().chain(&READS) {
        let (method, path) = call.split_once(' ').unwrap();
        let unread = stream::poll_fn(|_| -> std::task::Poll<Option<Result<Bytes, StatusError>>> {
            panic!("the body is read")
        });
        let request = Request::builder()
            .method(method)
            .uri(path.replace("{id}", &server.own.record().id().to_string()))
            .header("content-type", "application/json")
            .header("x-api-key", server.managed.admin.expose_secret())
            .body(Body::from_stream(unread));
        let response = ApiResponse::send_request(&server.app, request.unwrap()).await;
        assert_eq!(response.status, 303, "{call}");
        assert_eq!(response.header("location"), Some("/login"), "{call}");
    }
    server.assert_unchanged("all").await;
}

type StatusError = std::io::Error;

#[tokio::test]
async fn a_session_that_ends_before_the_write_changes_nothing() {
    for (session, status, code) in [
        (Session::Ends, 401, "actor_rejected"),
        (Session::Changes, 401, "actor_rejected"),
        (Session::Fails, 503, "auth_unavailable"),
    ] {
        for (call, body) in CHANGES {
            let server = Server::with_session(session).await;
            let response = server.call("user:1", call, body).await;
            let problem = response.assert_error(status, code);
            assert_eq!(problem.get("token_id"), None, "{call}");
            assert_eq!(response.header("www-authenticate"), None, "{call}");
            server.assert_unchanged(call).await;
        }
        let server = Server::with_session(session).await;
        let trial = r#"{"dry_run":true}"#;
        let response = server.call("user:1", "POST /service-tokens/revoke", trial);
        assert_eq!(response.await.status, status);
    }
}

#[tokio::test]
async fn the_session_of_an_operator_is_checked_before_each_call() {
    type Checked = fn() -> Result<Option<Operator>, CallbackError>;
    let sessions: [(Checked, u16, &str); 3] = [
        (|| Ok(None), 401, "actor_rejected"),
        (|| Ok(Some(Operator::new("other"))), 401, "actor_rejected"),
        (
            || Err(CallbackError::unavailable("no response")),
            503,
            "auth_unavailable",
        ),
    ];
    for (checked, status, code) in sessions {
        let operator = Operator::new("root").with_check(move || ready(checked()));
        let server = Server::with_actor(operator).await;
        for (call, body) in CHANGES {
            let response = server.call("", call, body).await;
            response.assert_error(status, code);
            server.assert_unchanged(call).await;
        }
        for call in READS {
            let response = server.call("", call, "").await;
            assert_eq!(response.status, status, "{call}: {response:?}");
        }
    }
    let operator = Operator::new("root").with_check(|| ready(Ok(Some(Operator::new("root")))));
    let server = Server::with_actor(operator).await;
    let listed = server.call("", "GET /service-tokens", "").await;
    assert_eq!(names(&listed).len(), 4);
}

#[tokio::test]
async fn an_outage_of_the_check_is_not_reported_as_one_of_the_store() {
    let unavailable = || Err(CallbackError::unavailable("no response"));
    let operator = Operator::new("root").with_check(move || ready(unavailable()));
    for (user, server) in [
        ("user:1", Server::with_session(Session::Fails).await),
        ("", Server::with_actor(operator).await),
    ] {
        let reads = READS.map(|call| (call, ""));
        let trial = ("POST /service-tokens/revoke", r#"{"dry_run":true}"#);
        for (call, body) in CHANGES.into_iter().chain(reads).chain([trial]) {
            assert_check_unavailable(call, &server.call(user, call, body).await);
        }
        server.assert_unchanged("all").await;
    }
}

#[tokio::test]
async fn unavailable_policies_of_an_owner_change_nothing() {
    let server = Server::with(|tokens| {
        let tokens = tokens
            .with_owner_policies(|_: String| ready(Err(CallbackError::unavailable("no response"))));
        ManagementApi::for_actor(tokens, |parts| ready(owner(parts, Session::Open)))
    })
    .await;
    let own = server.own.record().id();
    for (call, body) in [
        ("POST /service-tokens".to_owned(), r#"{"name":"x"}"#),
        (format!("PATCH /service-tokens/{own}"), r#"{"name":"x"}"#),
        (format!("POST /service-tokens/{own}/rotate"), ""),
        (format!("POST /service-tokens/{own}/enable"), ""),
    ] {
        let response = server.call("user:1", &call, body).await;
        let problem = response.assert_error(503, "change_failed");
        assert_eq!(problem["detail"], POLICIES_UNAVAILABLE, "{call}");
        assert!(response.header("retry-after").is_some(), "{call}");
        server.assert_unchanged(&call).await;
    }
    let revoked = server.call("user:1", "DELETE /service-tokens/{id}", "");
    assert_eq!(revoked.await.status, 204);
}

/// A replay would show the record.
#[tokio::test]
async fn a_session_that_ended_replays_nothing() {
    let ended = Arc::new(AtomicBool::new(false));
    let is_ended = Arc::clone(&ended);
    let server = Server::with(|tokens| {
        ManagementApi::for_actor(tokens, move |parts: &Parts| {
            let is_ended = is_ended.load(Ordering::Relaxed);
            let session = [Session::Open, Session::Ends][usize::from(is_ended)];
            ready(owner(parts, session))
        })
    })
    .await;
    let rotate = format!("POST /service-tokens/{}/rotate", server.own.record().id());
    for (call, body) in [("POST /service-tokens", r#"{"name":"x"}"#), (&rotate, "")] {
        let send = || {
            let headers = |it: Builder| it.header("user", "user:1").header("idempotency-key", "k");
            server.send(call, headers, body)
        };
        ended.store(false, Ordering::Relaxed);
        assert!(send().await.status < 300);
        assert_eq!(send().await.header("idempotency-replayed"), Some("true"));
        ended.store(true, Ordering::Relaxed);
        send().await.assert_error(401, "actor_rejected");
    }
}

#[tokio::test]
async fn operators_manage_all_tokens() {
    let server = Server::with_actor(Operator::new("root")).await;
    let listed = server.call("", "GET /service-tokens", "").await;
    assert_eq!(names(&listed).len(), 4);
    for (call, body) in &CHANGES[..7] {
        let response = server.call("", call, body).await;
        assert!(response.status < 300, "{call}: {response:?}");
    }
    let events = server.events.0.lock().unwrap();
    assert!(events.iter().all(|it| it.actor() == "operator:root"));
}

#[tokio::test]
async fn holders_need_the_scopes_of_the_api_or_their_own_requirement() {
    let own = Requirement::any_scope(["tokens:manage"]);
    for (scopes, requirement, reads, writes) in [
        (&["projects:read"][..], None, 403, 403),
        (&["projects:read", "service-tokens:read"], None, 200, 403),
        (&["projects:read", "service-tokens:write"], None, 403, 204),
        (&["service-tokens:admin"], None, 200, 204),
        (&["service-tokens:admin"], Some(&own), 403, 403),
        (&["projects:read", "tokens:manage"], Some(&own), 200, 204),
    ] {
        let store = MemoryStore::new();
        let managed = ApiFixture::new(store.clone(), store.clone()).await;
        let layer = managed.layer.clone();
        let api = match requirement {
            None => ManagementApi::for_actor_extractor::<Principal, _>(managed.tokens.clone(), ()),
            Some(own) => {
                let own = own.clone();
                ManagementApi::for_actor(managed.tokens.clone(), move |parts: &Parts| {
                    let principal = parts.extensions.get::<Principal>().unwrap().clone();
                    let holder = Holder::new(principal).with_requirement(own.clone());
                    ready(Ok::<_, StatusCode>(holder))
                })
            }
        };
        let app: Router = api.into_router().layer(layer);
        let holder = managed.holder(scopes).await;
        let token = managed.holder(&["projects:read"]).await;
        let path = format!("/service-tokens/{}", token.record().id());
        for (method, expected) in [("GET", reads), ("DELETE", writes)] {
            let call = format!("{method} {path}");
            let present = |it: Builder| it.header("x-api-key", holder.expose_secret());
            let response = ApiResponse::send(&app, &call, present, "").await;
            assert_eq!(response.status, expected, "{call} {scopes:?}: {response:?}");
            if expected == 403 {
                response.assert_error(403, "insufficient_scope");
            }
        }
    }
}

/// The token loses its scope after the layer accepted it.
#[tokio::test]
async fn the_requirement_of_a_holder_is_checked_in_the_transaction() {
    let store = MemoryStore::new();
    let managed = ApiFixture::new(store.clone(), store.clone()).await;
    let holder = managed
        .holder(&["projects:read", "service-tokens:write"])
        .await;
    let token = managed.holder(&["projects:read"]).await;
    let api = ManagementApi::for_actor_extractor::<Principal, _>(managed.tokens.clone(), ());
    let app: Router = api.into_router().layer(managed.layer.clone());
    let (tokens, id) = (managed.tokens.clone(), holder.record().id());
    let body = stream::once(async move {
        let update = TokenUpdate::new().with_scopes(["projects:read"]);
        tokens.update(id, update).await.unwrap();
        Ok::<_, StatusError>("{}")
    });
    let request = Request::post(format!("/service-tokens/{}/rotate", token.record().id()))
        .header("x-api-key", holder.expose_secret())
        .header("content-type", "application/json")
        .body(Body::from_stream(body));
    let response = ApiResponse::send_request(&app, request.unwrap()).await;
    response.assert_error(403, "insufficient_scope");
    let unchanged = managed.tokens.get(token.record().id()).await.unwrap();
    assert_eq!(unchanged.revision(), 1);
}

/// It may revoke one token, and is no authority to read others.
#[tokio::test]
async fn the_possession_of_a_secret_is_no_actor_of_the_api() {
    let token = Server::new().await.own;
    let presented = PresentedToken::new(token.expose_secret()).unwrap();
    let credential = Credential::new(presented);
    let possession = Actor::possession(token.record().id(), &credential);
    let server = Server::with_actor(possession).await;
    for call in CHANGES.map(|it| it.0).iter().chain(&READS) {
        let body = CHANGES.iter().find(|it| it.0 == *call);
        let response = server.call("", call, body.map_or("", |it| it.1)).await;
        response.assert_error(403, "insufficient_scope");
    }
    server.assert_unchanged("all").await;
}

#[tokio::test]
async fn the_requirement_of_an_owner_holds_for_every_call() {
    let manager = || Requirement::all_scopes(["tokens:manage"]);
    let with = |scopes: &[&str]| {
        let owner = Owner::new("user:1").with_scopes(scopes);
        Server::with_actor(owner.with_requirement(manager()))
    };
    let server = with(&["projects:*"]).await;
    for call in CHANGES.map(|it| it.0).iter().chain(&READS) {
        let body = CHANGES.iter().find(|it| it.0 == *call);
        let response = server.call("", call, body.map_or("", |it| it.1)).await;
        response.assert_error(403, "insufficient_scope");
    }
    server.assert_unchanged("all").await;
    let server = with(&["projects:*", "tokens:manage"]).await;
    for call in READS {
        let response = server.call("", call, "").await;
        assert_eq!(response.status, 200, "{call}: {response:?}");
    }
    for (call, body) in CHANGES {
        let response = server.call("", call, body).await;
        assert!(response.status < 300, "{call}: {response:?}");
    }
}

/// A layer of the host authenticates an administrator's token, which is not the actor.
#[tokio::test]
async fn the_principal_of_the_request_is_not_the_actor() {
    let mut server = Server::new().await;
    server.app = server.app.layer(server.managed.layer.clone());
    let admin = server.managed.admin.expose_secret().to_owned();
    let headers = |it: Builder| it.header("user", "user:1").header("x-api-key", &admin);
    let listed = server.send("GET /service-tokens", headers, "").await;
    assert_eq!(names(&listed), ["own"]);
    let foreign = format!("DELETE /service-tokens/{}", server.foreign.record().id());
    let response = server.send(&foreign, headers, "").await;
    response.assert_error(404, "not_found");
}

struct User(String);

/// What the application extracts its users with.
#[derive(Clone)]
struct Users(&'static str);

impl FromRequestParts<Users> for User {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, users: &Users) -> Result<Self, Self::Rejection> {
        let user = parts.headers.get("user");
        let user = user.ok_or((StatusCode::UNAUTHORIZED, "log in"))?;
        Ok(Self(format!("{}:{}", users.0, user.to_str().unwrap())))
    }
}

impl From<User> for Actor {
    fn from(user: User) -> Self {
        Owner::new(user.0).into()
    }
}

/// The same response for each owner, whether it exists and whatever its rules are.
#[tokio::test]
async fn responses_reveal_no_rules_of_another_owner() {
    let queried: Arc<Mutex<Vec<String>>> = Arc::default();
    let recorded = Arc::clone(&queried);
    let server = Server::with(|tokens| {
        let tokens = tokens.with_owner_policies(move |owner: String| {
            recorded.lock().unwrap().push(owner.clone());
            ready(match &*owner {
                "user:2" => Ok(TokenPolicy::new().with_name_rule(|_| Err("bb-…".to_owned()))),
                "user:1" => Ok(TokenPolicy::new()),
                _ => Err(CallbackError::unavailable("no such user")),
            })
        });
        ManagementApi::for_actor(tokens, |parts| ready(owner(parts, Session::Open)))
    })
    .await;
    for call in ["POST /service-tokens", "PATCH /service-tokens/{id}"] {
        let mut responses = Vec::new();
        for other in ["user:2", "user:9"] {
            let body = json!({ "name": "x", "expires_at": null, "owner": other });
            let response = server.call("user:1", call, &body.to_string()).await;
            assert_eq!(response.status, 422, "{call}: {response:?}");
            let pointers = &response.json()["errors"];
            assert_eq!(pointers.as_array().unwrap().len(), 1, "{pointers}");
            assert_eq!(pointers[0]["pointer"], "/owner");
            responses.push(response.body);
        }
        assert_eq!(responses[0], responses[1], "{call}");
        server.assert_unchanged(call).await;
    }
    assert_eq!(*queried.lock().unwrap(), [""; 0]);
}

#[tokio::test]
async fn extractors_determine_the_actor() {
    let server = Server::with(|tokens| {
        let tokens = tokens.with_owner_policies(async |_: String| {
            Ok(TokenPolicy::new().with_max_tokens_per_owner(1))
        });
        ManagementApi::for_actor_extractor::<User, _>(tokens, Users("user"))
    })
    .await;
    let refused = server.send("GET /service-tokens", |it| it, "").await;
    assert_eq!((refused.status, &*refused.body), (401, "log in"));
    let listed = server.call("1", "GET /service-tokens", "").await;
    assert_eq!(names(&listed), ["own"]);
    let create = "POST /service-tokens";
    let full = server.call("1", create, r#"{"name":"second"}"#).await;
    full.assert_error(409, "too_many_tokens");
    let first = server.call("3", create, r#"{"name":"first"}"#).await;
    assert_eq!(first.json()["service_token"]["owner"], "user:3");
}

#[tokio::test]
async fn the_audit_trail_has_the_address_of_the_client() {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    for (own, expected) in [(None, "192.0.2.1"), (Some("192.0.2.9"), "192.0.2.9")] {
        let actor = Actor::from(Owner::new("user:1")).with_client_address(own.map(address));
        let mut server = Server::with_actor(actor).await;
        server.app = server
            .app
            .layer(Extension(ClientAddress::new(address("192.0.2.1"))));
        server.call("", "DELETE /service-tokens/{id}", "").await;
        let events = server.events.0.lock().unwrap();
        assert_eq!(events[0].client_address(), Some(address(expected)));
    }
}

#[tokio::test]
async fn the_document_leaves_security_to_the_application() {
    let tokens = || ServiceTokens::new(MemoryStore::new());
    let api = |tokens| {
        let actor = |parts: &Parts| ready(owner(parts, Session::Open));
        ManagementApi::for_actor(tokens, actor)
    };
    let document = serde_json::to_value(api(tokens()).openapi()).unwrap();
    assert_eq!(document["components"].get("securitySchemes"), None);
    let paths = document["paths"].as_object().unwrap();
    assert!(!paths.keys().any(|path| path.contains("self")));
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let is_open = path == "/openapi.json";
            let security = is_open.then(|| json!([{}]));
            assert_eq!(
                operation.get("security"),
                security.as_ref(),
                "{method} {path}"
            );
        }
    }
    let text = document.to_string();
    for code in ["actor_rejected", "cross_site_request"] {
        assert!(text.contains(code), "{code}");
    }
}

#[tokio::test]
async fn serves_the_document_that_openapi_returns() {
    let api = |tokens| {
        let actor = |parts: &Parts| ready(owner(parts, Session::Open));
        ManagementApi::for_actor(tokens, actor)
            .with_openapi_modifier(SecuritySchemes)
            .with_operation_id_prefix("account_")
    };
    let mut returned = None;
    let server = Server::with(|tokens| {
        let api = api(tokens);
        returned = Some(serde_json::to_value(api.openapi()).unwrap());
        api
    })
    .await;
    let response = server.send("GET /openapi.json", |it| it, "").await;
    let mut document = response.json();
    let servers = document.as_object_mut().unwrap().remove("servers");
    assert_eq!(servers, Some(json!([{ "url": "/" }])));
    let returned = returned.unwrap();
    assert_eq!(document, returned);
    let schemes = returned["components"]["securitySchemes"].as_object();
    assert_eq!(schemes.unwrap().len(), 2);
    let list = &returned["paths"]["/service-tokens"]["get"];
    assert_eq!(list["operationId"], "account_listServiceTokens");
}

/// Also if a layer of the host inserts the principal of another caller.
#[cfg(feature = "tracing")]
#[tokio::test]
async fn failures_are_logged_without_the_token_of_another_caller() {
    let mut server = Server::with_session(Session::Fails).await;
    server.app = server.app.layer(server.managed.layer.clone());
    let admin = server.managed.admin.expose_secret().to_owned();
    let events = tests::events::Events::default();
    let _guard = events.start();
    let call = format!("DELETE /service-tokens/{}", server.own.record().id());
    let headers = |it: Builder| it.header("user", "user:1").header("x-api-key", &admin);
    let response = server.send(&call, headers, "").await;
    response.assert_error(503, "auth_unavailable");
    let event = events.only();
    assert_eq!(event["level"], "ERROR");
    assert_eq!(event["reason"], "actor_check_unavailable");
    assert!(event["error"].contains("no response"), "{event:?}");
    assert_eq!(event.get("token_id"), None, "{event:?}");
}
