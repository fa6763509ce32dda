use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::{any, get, patch, post};

use super::handlers::{self, HandlerState, PipeOps};
use super::response::{ErrorMessage, ErrorResponse};
use crate::api::body;
use crate::api::guard::{Routes, guarded};
use crate::api::listing::ListWriter;
use crate::lifecycle::ServiceTokens;
use crate::middleware::ServiceTokenLayer;

const PREFIX: &str = "/api/v1";
const WORKSPACES: &str = "/workspace";
const TOKENS: &str = "/api/v1/service-account-tokens";
const TOKEN: &str = "/api/v1/service-account-tokens/{uuid}";

/// Builds the router for the client `pipeops-go-sdk`.
///
/// See the [module](super) for the rules and an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct PipeOpsApi {
    tokens: ServiceTokens,
    layer: ServiceTokenLayer,
    default_workspace: Box<str>,
}

impl PipeOpsApi {
    /// Creates an API that manages `tokens` for callers that `layer` accepts.
    ///
    /// If the tokens of callers are in another store than the managed tokens, declare it with
    /// [`with_actor_store`](ServiceTokens::with_actor_store). Otherwise their changes are rejected.
    ///
    /// The API ignores the layer's response builder, and always accepts `Authorization: Bearer`.
    pub fn new(tokens: ServiceTokens, layer: ServiceTokenLayer) -> Self {
        Self {
            tokens,
            layer,
            default_workspace: "default".into(),
        }
    }

    /// Sets the workspace of tokens without one, at most 200 characters. The client does not escape
    /// it in queries, so use letters, digits and `-`. The default is `default`.
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

    /// Builds the router, for an app with any state. Merge it at the root.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let routes = Routes {
            readers: Router::new()
                .route(TOKENS, get(handlers::list))
                .route(TOKEN, get(handlers::get)),
            writers: Router::new()
                .route(TOKENS, post(handlers::create))
                .route(TOKEN, patch(handlers::update).delete(handlers::revoke)),
            others: Router::new().route(WORKSPACES, get(handlers::workspaces)),
        };
        let layer = self.layer.accept_bearer().for_api();
        let state = HandlerState {
            tokens: self.tokens,
            checker: layer.checker(),
            extra: PipeOps {
                default_workspace: self.default_workspace,
                lists: ListWriter::default(),
            },
        };
        let no_such_path = async || ErrorResponse::no_such_path();
        let unknown = Router::new()
            .fallback(no_such_path)
            .layer(from_fn(body::drain_unread));
        // A nested fallback does not get its prefix with a slash.
        let prefixes = Router::new()
            .route("/api/v1/", any(no_such_path))
            .route("/workspace/", any(no_such_path))
            .layer(from_fn(body::drain_unread));
        guarded::<ErrorMessage, _>(layer, routes)
            .route_layer(from_fn(body::drain_unread))
            .with_state(Arc::new(state))
            .merge(prefixes)
            .nest(PREFIX, unknown.clone())
            .nest(WORKSPACES, unknown)
    }
}
