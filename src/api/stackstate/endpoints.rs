use std::fmt;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::json;

use super::super::body;
use super::super::caller::{Caller, HasChecker, READ_SCOPES, WRITE_SCOPES, write_requirement};
use super::super::listing::{FailureReport, ListWriter};
use super::super::request_log::LogFailuresLayer;
use super::error::{ErrorResponse, RejectionResponses, write_error_bodies};
use super::tokens;
use crate::authorize::RequireScopesLayer;
use crate::lifecycle::{LifecycleError, ServiceTokens};
use crate::middleware::{Checker, ServiceTokenLayer};
use crate::observe::RequestInfo;

/// Makes the router of the calls that the `sts` command line makes.
///
/// See the [module](super) for the rules and an example.
#[derive(Clone)]
#[must_use]
pub struct StackStateApi {
    tokens: ServiceTokens,
    layer: ServiceTokenLayer,
}

impl StackStateApi {
    /// Manages `tokens`, for callers that `layer` accepts.
    ///
    /// If callers may have tokens of another store than the tokens they manage, declare it with
    /// [`with_actor_store`](ServiceTokens::with_actor_store): their changes are refused otherwise.
    ///
    /// The layer's response builder means nothing here.
    pub fn new(tokens: ServiceTokens, layer: ServiceTokenLayer) -> Self {
        Self { tokens, layer }
    }

    /// The router, for an app with any state, to be nested at `/api`.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let layer = self.layer.for_api();
        let checker = layer.checker();
        let rejection_responses = RejectionResponses(Arc::clone(&checker.clock));
        let guard = |scopes: [&'static str; 2]| {
            let guard = RequireScopesLayer::any_of(scopes);
            guard.with_rejection_response(rejection_responses.clone())
        };
        let readers = Router::new()
            .route("/security/tokens", get(tokens::list))
            .route_layer(guard(READ_SCOPES));
        let writers = Router::new()
            .route("/security/tokens", post(tokens::create))
            .route("/security/tokens/{id}", delete(tokens::revoke))
            .route_layer(guard(WRITE_SCOPES));
        let state = ApiState {
            tokens: self.tokens,
            checker,
            lists: ListWriter::default(),
        };
        Router::new()
            .route("/server/info", get(info))
            .route("/server/status", get(status))
            .merge(readers)
            .merge(writers)
            .route_layer(LogFailuresLayer)
            .route_layer(layer.with_rejection_response(rejection_responses))
            .method_not_allowed_fallback(async |State(state): State<Arc<ApiState>>| {
                let status = StatusCode::METHOD_NOT_ALLOWED;
                state.error(status, "there is no such call on this path")
            })
            .layer(DefaultBodyLimit::max(body::MAX_BODY_BYTES))
            .layer(from_fn(write_error_bodies))
            .with_state(Arc::new(state))
    }
}

impl fmt::Debug for StackStateApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackStateApi")
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}

/// What all calls work with.
pub(super) struct ApiState {
    pub(super) tokens: ServiceTokens,
    checker: Arc<Checker>,
    pub(super) lists: ListWriter,
}

impl HasChecker for ApiState {
    fn checker(&self) -> &Checker {
        &self.checker
    }
}

impl ApiState {
    /// The tokens as this caller may change them, who is authenticated again.
    pub(super) async fn tokens_for(&self, caller: Caller) -> Result<ServiceTokens, ErrorResponse> {
        let tokens = caller
            .reauthenticate(&self.tokens, &self.checker, Some(write_requirement()))
            .await;
        tokens
            .map_err(|rejection| ErrorResponse::from_rejection(rejection, self.checker.clock.now()))
    }

    pub(super) fn failure_report(&self, request: RequestInfo) -> FailureReport {
        FailureReport {
            checker: Arc::clone(&self.checker),
            request,
        }
    }

    pub(super) fn error_response(&self, error: LifecycleError) -> ErrorResponse {
        ErrorResponse::from_error(error, &self.checker)
    }

    pub(super) fn bad_request(&self, message: &str) -> ErrorResponse {
        self.error(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn error(&self, status: StatusCode, message: &str) -> ErrorResponse {
        ErrorResponse::new(status, message, self.checker.clock.now())
    }

    pub(super) fn invalid_expiry(&self, message: &str) -> ErrorResponse {
        let kind = "ServiceTokenInvalidExpiryError";
        ErrorResponse::with_type(
            StatusCode::BAD_REQUEST,
            kind,
            message,
            self.checker.clock.now(),
        )
    }
}

/// What the tool asks before everything else: a version of 5 or more, and no pre-release, which is
/// what a commit without a diff would look like.
async fn info() -> Response {
    let version = json!({
        "major": 5, "minor": 2, "patch": 0, "diff": "", "commit": "", "isDev": false,
    });
    let info = json!({
        "version": version,
        "deploymentMode": "SelfHosted",
        "platformVersion": env!("CARGO_PKG_VERSION"),
        "applicationDomains": [],
    });
    Json(info).into_response()
}

async fn status() -> Response {
    Json(json!({ "status": "OK" })).into_response()
}
