use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};
use utoipa::openapi::OpenApi;

use super::document::Document;
use super::problem::Problem;
use super::state::HandlerState;
use super::{bulk, create, document, list, openapi, token};
use crate::api::guard::{Routes, guarded};
use crate::lifecycle::ServiceTokens;
use crate::middleware::ServiceTokenLayer;
use crate::openapi::SecuritySchemes;
use crate::wire;

/// Builds the router of the management API.
///
/// See the [module](super) for the calls and an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct ManagementApi {
    tokens: ServiceTokens,
    layer: ServiceTokenLayer,
}

impl ManagementApi {
    /// Creates an API that manages `tokens` for callers that `layer` accepts.
    ///
    /// If the tokens of callers are in another store than the managed tokens, declare it with
    /// [`with_actor_store`](ServiceTokens::with_actor_store). Otherwise their changes are rejected.
    pub fn new(tokens: ServiceTokens, layer: ServiceTokenLayer) -> Self {
        Self { tokens, layer }
    }

    /// Returns the OpenAPI 3.1 document of the API, to merge into the document of your service.
    ///
    /// Its components have the prefix `ServiceToken`. It has no `servers`, and all
    /// [security schemes](crate::api::SecuritySchemes).
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

    /// Builds the router, for an app with any state. Do not put a `ServiceTokenLayer` in front of it.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let layer = self.layer.for_api();
        let state = Arc::new(HandlerState {
            tokens: self.tokens,
            checker: layer.checker(),
            extra: (),
        });
        let document = Document::new(layer.checker().sources.clone(), openapi::document);
        let readers = Router::new()
            .route("/service-tokens", get(list::handle))
            .route("/service-tokens/{id}", get(token::get));
        let writers = Router::new()
            .route("/service-tokens", post(create::handle))
            .route(
                "/service-tokens/{id}",
                delete(token::revoke).patch(token::update),
            )
            .route("/service-tokens/{id}/rotate", post(token::rotate))
            .route("/service-tokens/{id}/disable", post(token::disable))
            .route("/service-tokens/{id}/enable", post(token::enable))
            .route("/service-tokens/revoke", post(bulk::handle));
        let others = Router::new()
            .route(
                "/service-tokens/self",
                get(token::get_own).delete(token::revoke_own),
            )
            .route("/service-tokens/self/rotate", post(token::rotate_own));
        let routes = Routes {
            readers,
            writers,
            others,
        };
        guarded::<Box<wire::Problem>, _>(layer, routes)
            .with_state(state)
            .merge(
                Router::new()
                    .route(document::PATH, get(document::handle))
                    .with_state(Arc::new(document)),
            )
            .method_not_allowed_fallback(async || Problem::method_not_allowed())
    }
}
