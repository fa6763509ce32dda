use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn;
use axum::routing::{get, patch, post};
use http::StatusCode;
use serde_json::{Value, json};

use super::super::body;
use super::super::caller::{Caller, HasChecker, READ_SCOPES, WRITE_SCOPES, write_requirement};
use super::super::listing::{FailureReport, ListWriter};
use super::super::request_log::LogFailuresLayer;
use super::response::{ErrorResponse, RejectionResponses};
use super::{tokens, workspace};
use crate::authorize::RequireScopesLayer;
use crate::lifecycle::{LifecycleError, ServiceTokens, TokenInfo};
use crate::middleware::{Checker, ServiceTokenLayer};
use crate::observe::RequestInfo;
use crate::store::{TokenRecord, TokenState};

const TOKENS: &str = "/api/v1/service-account-tokens";
const TOKEN: &str = "/api/v1/service-account-tokens/{uuid}";

/// Makes the router of the calls that the client `pipeops-go-sdk` makes.
///
/// See the [module](super) for the rules and an example.
#[derive(Clone)]
#[must_use]
pub struct PipeOpsApi {
    tokens: ServiceTokens,
    layer: ServiceTokenLayer,
    default_workspace: Box<str>,
}

impl PipeOpsApi {
    /// Manages `tokens`, for callers that `layer` accepts.
    ///
    /// If callers may have tokens of another store than the tokens they manage, declare it with
    /// [`with_actor_store`](ServiceTokens::with_actor_store): their changes are refused otherwise.
    ///
    /// The layer's response builder means nothing here, and `Authorization: Bearer` is always read.
    pub fn new(tokens: ServiceTokens, layer: ServiceTokenLayer) -> Self {
        Self {
            tokens,
            layer,
            default_workspace: "default".into(),
        }
    }

    /// The workspace of a token for which none is named: at most 200 characters. The client pastes
    /// it into queries, so letters, digits and `-` are safe. Default: `default`.
    ///
    /// ```
    /// use tower_service_token::api::pipeops::PipeOpsApi;
    /// use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};
    ///
    /// let store = MemoryStore::new();
    /// let layer = ServiceTokenLayer::new(store.clone());
    /// let api = PipeOpsApi::new(ServiceTokens::new(store), layer).with_default_workspace("team-a");
    /// ```
    pub fn with_default_workspace(mut self, uuid: impl Into<Box<str>>) -> Self {
        self.default_workspace = uuid.into();
        self
    }

    /// The router, for an app with any state, to be merged at the root.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let guard = |scopes: [&'static str; 2]| {
            let guard = RequireScopesLayer::any_of(scopes);
            guard.with_rejection_response(RejectionResponses)
        };
        let readers = Router::new()
            .route(TOKENS, get(tokens::list))
            .route(TOKEN, get(tokens::get))
            .route_layer(guard(READ_SCOPES));
        let writers = Router::new()
            .route(TOKENS, post(tokens::create))
            .route(TOKEN, patch(tokens::update).delete(tokens::revoke))
            .route_layer(guard(WRITE_SCOPES));
        let layer = self.layer.accept_bearer().for_api();
        let state = ApiState {
            tokens: self.tokens,
            checker: layer.checker(),
            default_workspace: self.default_workspace,
            lists: ListWriter::default(),
        };
        Router::new()
            .route("/workspace", get(workspace::list))
            .merge(readers)
            .merge(writers)
            .route_layer(LogFailuresLayer)
            .route_layer(layer.with_rejection_response(RejectionResponses))
            .route_layer(from_fn(body::drain_unread))
            .method_not_allowed_fallback(async || {
                let status = StatusCode::METHOD_NOT_ALLOWED;
                ErrorResponse::new(status, "there is no such call on this path")
            })
            .layer(DefaultBodyLimit::max(body::MAX_BODY_BYTES))
            .with_state(Arc::new(state))
    }
}

impl fmt::Debug for PipeOpsApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeOpsApi")
            .field("layer", &self.layer)
            .field("default_workspace", &self.default_workspace)
            .finish_non_exhaustive()
    }
}

/// What all calls work with.
pub(super) struct ApiState {
    pub(super) tokens: ServiceTokens,
    checker: Arc<Checker>,
    pub(super) default_workspace: Box<str>,
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
        tokens.map_err(ErrorResponse::from_rejection)
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

    /// A token as the client reads it.
    pub(super) fn token_json(&self, record: &TokenRecord) -> Value {
        let shown = TokenInfo::new(record, self.checker.clock.now());
        let shown = serde_json::to_value(shown).expect("texts, lists and maps of them are JSON");
        let prefix = record.hint().unwrap_or_default().trim_end_matches('*');
        json!({
            "uuid": shown["id"],
            "id": shown["id"],
            "name": shown["name"],
            "description": record.description().unwrap_or_default(),
            "token_prefix": prefix,
            "workspace_id": self.workspace_of(record),
            "permissions": shown["scopes"],
            "scopes": shown["scopes"],
            "is_active": record.state() == TokenState::Active,
            "expires_at": shown["expires_at"],
            "created_at": shown["created_at"],
            "updated_at": shown["updated_at"],
            "last_used_at": shown["last_used_at"],
        })
    }
}
