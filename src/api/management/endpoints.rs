use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use http::{HeaderValue, StatusCode};
use serde_json::Value;
use utoipa::openapi::OpenApi;

use super::super::caller::{Caller, HasChecker, READ_SCOPES, WRITE_SCOPES};
use super::super::request_log::LogFailuresLayer;
use super::problem::Problem;
use super::{body, bulk, change, create, list, openapi};
use crate::api::SecuritySchemes;
use crate::authorize::RequireScopesLayer;
use crate::header::CredentialSources;
use crate::lifecycle::{LifecycleError, ServiceTokens, TokenInfo};
use crate::middleware::{Checker, ServiceTokenLayer};
use crate::principal::Requirement;
use crate::store::TokenRecord;
use crate::token::TokenId;

/// Makes the router of the management API.
///
/// See the [module](super) for the calls and an example.
#[derive(Clone)]
#[must_use]
pub struct ManagementApi {
    tokens: ServiceTokens,
    layer: ServiceTokenLayer,
}

impl ManagementApi {
    /// Manages `tokens`, for callers that `layer` accepts.
    ///
    /// If callers may have tokens of another store than the tokens they manage, declare it with
    /// [`with_actor_store`](ServiceTokens::with_actor_store): their changes are refused otherwise.
    pub fn new(tokens: ServiceTokens, layer: ServiceTokenLayer) -> Self {
        Self { tokens, layer }
    }

    /// The OpenAPI 3.1 document of the API, for a service that tells of it in its own way. It has no
    /// `servers`, and knows every way in which a [token may be sent](crate::api::SecuritySchemes).
    ///
    /// ```
    /// use tower_service_token::api::management::ManagementApi;
    ///
    /// let document = ManagementApi::openapi();
    /// assert!(document.paths.paths.contains_key("/service-tokens/{id}/rotate"));
    /// ```
    pub fn openapi() -> OpenApi {
        openapi::document(&SecuritySchemes::sources())
    }

    /// The router, for an app with any state. Put no `ServiceTokenLayer` before it.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let layer = self.layer.for_api();
        let checker = layer.checker();
        let state = Arc::new(ApiState {
            tokens: self.tokens,
            checker,
            sources: layer.sources().clone(),
            document: OnceLock::new(),
        });
        let reader = || RequireScopesLayer::any_of(READ_SCOPES);
        let writer = || RequireScopesLayer::any_of(WRITE_SCOPES);
        let readers = Router::new()
            .route("/service-tokens", get(list::handle))
            .route("/service-tokens/{id}", get(change::get))
            .route_layer(reader());
        let writers = Router::new()
            .route("/service-tokens", post(create::handle))
            .route(
                "/service-tokens/{id}",
                delete(change::revoke).patch(change::update),
            )
            .route("/service-tokens/{id}/rotate", post(change::rotate))
            .route("/service-tokens/{id}/disable", post(change::disable))
            .route("/service-tokens/{id}/enable", post(change::enable))
            .route("/service-tokens/revoke", post(bulk::handle))
            .route_layer(writer());
        let own = Router::new()
            .route(
                "/service-tokens/self",
                get(change::get_own).delete(change::revoke_own),
            )
            .route("/service-tokens/self/rotate", post(change::rotate_own));
        readers
            .merge(writers)
            .merge(own)
            .route_layer(LogFailuresLayer)
            .route_layer(layer)
            .route(openapi::PATH, get(openapi::handle))
            .method_not_allowed_fallback(async || Problem::method_not_allowed())
            .layer(DefaultBodyLimit::max(body::MAX_BODY_BYTES))
            .with_state(state)
    }
}

impl fmt::Debug for ManagementApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagementApi")
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}

/// What all calls work with.
pub(super) struct ApiState {
    tokens: ServiceTokens,
    checker: Arc<Checker>,
    sources: CredentialSources,
    document: OnceLock<openapi::Template>,
}

impl HasChecker for ApiState {
    fn checker(&self) -> &Checker {
        &self.checker
    }
}

impl ApiState {
    pub(super) fn tokens(&self) -> &ServiceTokens {
        &self.tokens
    }

    /// The tokens as this caller may change them, who is authenticated again.
    pub(super) async fn tokens_for(
        &self,
        caller: Caller,
        requirement: Option<Requirement>,
    ) -> Result<ServiceTokens, Problem> {
        let tokens = caller.reauthenticate(&self.tokens, &self.checker, requirement);
        Ok(tokens.await?)
    }

    pub(super) fn document(&self) -> &openapi::Template {
        let sources = &self.sources;
        self.document
            .get_or_init(|| openapi::Template::new(sources))
    }

    pub(super) fn problem(&self, error: LifecycleError) -> Problem {
        Problem::from_error(error, &self.checker)
    }

    pub(super) fn token_json(&self, record: &TokenRecord) -> Value {
        let shown = TokenInfo::new(record, self.now());
        serde_json::to_value(shown).expect("texts, lists and maps of them are JSON")
    }

    /// The answer that is a token, at its revision.
    pub(super) fn token_response(&self, record: &TokenRecord) -> Response {
        let mut response = json_response(StatusCode::OK, &self.token_json(record));
        let tag = HeaderValue::try_from(format!("\"{}\"", record.revision()));
        let tag = tag.expect("digits are visible ASCII");
        response.headers_mut().insert(ETAG, tag);
        response
    }

    fn now(&self) -> SystemTime {
        self.checker.clock.now()
    }
}

/// The id in a path. What is none names no token.
pub(super) fn id(text: &str) -> Result<TokenId, Problem> {
    text.parse().map_err(|_| Problem::not_found())
}

/// An answer that nobody may keep.
pub(super) fn json_response(status: StatusCode, body: &Value) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, body.to_string()).into_response()
}
