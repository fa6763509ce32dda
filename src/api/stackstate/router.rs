use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::error::{ErrorResponse, Errors, write_error_bodies};
use super::token::{self, HandlerState};
use crate::api::guard::{Routes, guarded};
use crate::api::listing::ListWriter;
use crate::lifecycle::ServiceTokens;
use crate::middleware::ServiceTokenLayer;

/// Builds the router for the `sts` command line tool.
///
/// See the [module](super) for the rules and an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct StackStateApi {
    tokens: ServiceTokens,
    layer: ServiceTokenLayer,
}

impl StackStateApi {
    /// Creates an API that manages `tokens` for callers that `layer` accepts.
    ///
    /// If the tokens of callers are in another store than the managed tokens, declare it with
    /// [`with_actor_store`](ServiceTokens::with_actor_store). Otherwise their changes are rejected.
    ///
    /// The API ignores the layer's response builder.
    pub fn new(tokens: ServiceTokens, layer: ServiceTokenLayer) -> Self {
        Self { tokens, layer }
    }

    /// Builds the router, for an app with any state. Nest it at `/api`.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let layer = self.layer.for_api();
        let checker = layer.checker();
        let clock = Arc::clone(&checker.clock);
        let routes = Routes {
            readers: Router::new().route("/security/tokens", get(token::list)),
            writers: Router::new()
                .route("/security/tokens", post(token::create))
                .route("/security/tokens/{id}", delete(token::revoke)),
            others: Router::new()
                .route("/server/info", get(info))
                .route("/server/status", get(status)),
        };
        let state = HandlerState {
            tokens: self.tokens,
            checker,
            extra: ListWriter::default(),
        };
        guarded::<Errors, _>(layer, routes)
            .fallback(async || ErrorResponse::no_such_path())
            .layer(from_fn_with_state(clock, write_error_bodies))
            .with_state(Arc::new(state))
    }
}

/// Returns the version that the tool checks first. It requires 5.0.0 or later, and reads a commit
/// without a diff as a pre-release.
async fn info() -> Json<Value> {
    Json(json!({
        "version": {
            "major": 5, "minor": 2, "patch": 0, "diff": "", "commit": "", "isDev": false,
        },
        "deploymentMode": "SelfHosted",
        "platformVersion": env!("CARGO_PKG_VERSION"),
        "applicationDomains": [],
    }))
}

async fn status() -> Json<Value> {
    Json(json!({ "status": "OK" }))
}
