//! A lifecycle error as the response of an axum handler, and values as its input and output.

use axum::extract::{Path, State};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use axum::{Json, Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_service_token::lifecycle::{
    CallbackError, FieldProblem, IssuedToken, LifecycleError, NewToken,
};
use tower_service_token::principal::Requirement;
use tower_service_token::registry::AuthorityError;
use tower_service_token::reject::{Rejection, RejectionReason};
use tower_service_token::store::{DenialKind, StoreError};
use tower_service_token::token::TokenId;
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, ServiceTokens};

async fn create(
    State(tokens): State<ServiceTokens>,
    caller: Principal,
    Json(new): Json<NewToken>,
) -> Result<Json<TokenId>, LifecycleError> {
    let issued = tokens.acting_for(caller).create(new).await?;
    Ok(Json(issued.record().id()))
}

async fn revoke(
    State(tokens): State<ServiceTokens>,
    caller: Principal,
    Path(id): Path<TokenId>,
) -> Result<(), LifecycleError> {
    tokens.acting_for(caller).revoke(id).await?;
    Ok(())
}

struct App {
    router: Router,
    caller: IssuedToken,
}

impl App {
    async fn new() -> Self {
        let store = MemoryStore::new();
        let tokens = ServiceTokens::new(store.clone());
        let new = NewToken::new("ci")
            .with_roles(["deployer"])
            .with_label("team", "web");
        let caller = tokens.create(new).await.unwrap();
        let router = Router::new()
            .route("/whoami", get(async |caller: Principal| Json(caller)))
            .route("/tokens", post(create))
            .route("/tokens/{id}", delete(revoke))
            .with_state(tokens)
            .route_layer(ServiceTokenLayer::new(store));
        Self { router, caller }
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .header("x-api-key", self.caller.expose_secret())
            .body(Body::from(body.to_owned()))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        (
            status,
            serde_json::from_slice(&body).unwrap_or(Value::String(text)),
        )
    }
}

#[tokio::test]
async fn handlers_take_and_return_values_as_json_and_in_paths() {
    let app = App::new().await;
    let (status, whoami) = app.call("GET", "/whoami", "").await;
    let id = app.caller.record().id().to_string();
    let expected = json!({
        "id": id, "name": "ci", "subject": null, "owner": null, "roles": ["deployer"], "scopes": [],
        "expires_at": null, "labels": { "team": "web" },
    });
    assert_eq!((status, whoami), (StatusCode::OK, expected));

    let new = r#"{"name":"cd","roles":["deployer"],"expires_in":"30d"}"#;
    let (status, created) = app.call("POST", "/tokens", new).await;
    assert_eq!(status, StatusCode::OK, "{created}");
    let path = format!("/tokens/{}", created.as_str().unwrap());
    assert_eq!(app.call("DELETE", &path, "").await.0, StatusCode::OK);
    assert_eq!(
        app.call("DELETE", "/tokens/7", "").await.0,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn failed_handlers_respond_with_problems() {
    let app = App::new().await;
    let (status, problem) = app.call("DELETE", "/tokens/0000000000", "").await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::NOT_FOUND, &json!("not_found"))
    );
    let (status, problem) = app.call("POST", "/tokens", r#"{"name":" x"}"#).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["errors"][0]["pointer"], "/name");
    let (status, problem) = app
        .call("POST", "/tokens", r#"{"name":"x","roles":["admin"]}"#)
        .await;
    assert_eq!(
        (status, &problem["missing"]),
        (StatusCode::FORBIDDEN, &json!(["admin"]))
    );
}

/// Each error with its status, its code and the headers that its response has.
#[tokio::test]
async fn each_error_has_its_status_code_and_headers() {
    let requirement = Requirement::all_scopes(["service-tokens:write"]);
    let denied = |kind| LifecycleError::from(AuthorityError::ActorTokenRejected(kind));
    let problem = FieldProblem::new("/name", "too long");
    for (error, status, code, header) in [
        (problem.into(), 422, "invalid_fields", None),
        (
            LifecycleError::IdempotencyKeyReused,
            422,
            "idempotency_key_reused",
            None,
        ),
        (LifecycleError::NotFound, 404, "not_found", None),
        (LifecycleError::NameTaken, 409, "name_taken", None),
        (LifecycleError::LastAdmin, 409, "last_admin", None),
        (
            LifecycleError::RevisionMismatch,
            412,
            "precondition_failed",
            None,
        ),
        (LifecycleError::UnknownActor, 403, "unknown_actor", None),
        (
            AuthorityError::PreviousSecret.into(),
            428,
            "precondition_required",
            None,
        ),
        (
            AuthorityError::ActorRejected.into(),
            401,
            "actor_rejected",
            None,
        ),
        (
            denied(DenialKind::Revoked),
            401,
            "token_revoked",
            Some("www-authenticate"),
        ),
        (
            denied(DenialKind::Unknown),
            401,
            "invalid_token",
            Some("www-authenticate"),
        ),
        (
            AuthorityError::RequirementNotMet(requirement.into()).into(),
            403,
            "insufficient_scope",
            Some("www-authenticate"),
        ),
        (
            StoreError::unavailable("down").into(),
            503,
            "change_failed",
            Some("retry-after"),
        ),
        (
            LifecycleError::ActorCheck(CallbackError::unavailable("down")),
            503,
            "auth_unavailable",
            Some("retry-after"),
        ),
        (
            LifecycleError::OwnerPolicies(CallbackError::unavailable("down")),
            503,
            "change_failed",
            Some("retry-after"),
        ),
        (StoreError::corrupt("a row").into(), 500, "internal", None),
    ] {
        assert_eq!((error.status().as_u16(), error.code()), (status, code));
        let response = error.into_response();
        assert_eq!(response.status(), status, "{code}");
        let (parts, body) = response.into_parts();
        assert_eq!(
            parts.headers["content-type"], "application/problem+json",
            "{code}"
        );
        assert_eq!(parts.headers["cache-control"], "no-store", "{code}");
        for name in ["www-authenticate", "retry-after"] {
            assert_eq!(
                parts.headers.contains_key(name),
                header == Some(name),
                "{code} {name}"
            );
        }
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&body["status"], &body["code"]),
            (&json!(status), &json!(code))
        );
        assert!(!body.to_string().contains("down"), "{body}");
    }
}

#[tokio::test]
async fn responses_to_outages_say_what_is_unavailable() {
    let down = || CallbackError::unavailable("down");
    for (error, reason, detail) in [
        (
            LifecycleError::ActorCheck(down()),
            RejectionReason::ActorCheckUnavailable,
            "the login of the caller cannot be checked at the moment; nothing was changed",
        ),
        (
            LifecycleError::OwnerPolicies(down()),
            RejectionReason::OwnerPoliciesUnavailable,
            "the limits of the owner cannot be read at the moment; nothing was changed",
        ),
        (
            StoreError::unavailable("down").into(),
            RejectionReason::ChangeFailed,
            "the token store is unavailable: the change failed, or its outcome is unknown",
        ),
    ] {
        let response = error.into_response();
        let rejection = response.extensions().get::<Rejection>().unwrap();
        assert_eq!(rejection.reason(), reason);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["detail"], detail);
    }
}

/// An outer layer logs the cause, which the response does not have.
#[test]
fn response_to_an_outage_has_its_cause_in_the_extensions() {
    let response = LifecycleError::from(StoreError::unavailable("down")).into_response();
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.reason(), RejectionReason::ChangeFailed);
    let source = std::error::Error::source(rejection).unwrap();
    assert_eq!(
        std::error::Error::source(source).unwrap().to_string(),
        "down"
    );
}
