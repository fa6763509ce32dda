use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CACHE_CONTROL;
use http::request::Parts;

use super::super::inspector::Inspector;
use super::super::request_log::log_failures;
use super::identity;
use super::query::QueryRequirements;
use crate::limits::FailureLimit;
use crate::middleware::ServiceTokenLayer;
use crate::reject::Rejection;

/// Builds the router of `/verify`.
///
/// See the [module](super) for the rules and an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct ForwardAuth {
    layer: ServiceTokenLayer,
}

impl ForwardAuth {
    /// Creates an endpoint that checks tokens as `layer` does, and always accepts `ApiKey` and
    /// `Bearer`. It ignores the layer's response builder and whether it is optional.
    pub fn new(layer: ServiceTokenLayer) -> Self {
        Self { layer }
    }

    /// Limits unknown tokens. `None` sets no limit. The default is the limit of the layer, or else
    /// [`FailureLimit::new`].
    pub fn with_failure_limit(mut self, limit: impl Into<Option<FailureLimit>>) -> Self {
        self.layer = self.layer.with_failure_limit(limit);
        self
    }

    /// Builds the router, for an app with any state.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let inspector = Inspector {
            checker: self.layer.into_checker(false),
        };
        Router::new()
            .route("/verify", get(handle).post(handle))
            .route_layer(from_fn(log_failures))
            .with_state(Arc::new(inspector))
    }
}

async fn handle(State(inspector): State<Arc<Inspector>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let requirements = match QueryRequirements::from_query(parts.uri.query()) {
        Ok(requirements) => requirements,
        Err(error) => return error.into_response(),
    };
    match inspector.verify(&mut parts, requirements).await {
        Ok(identity) => {
            let no_store = [(CACHE_CONTROL, "no-store")];
            (StatusCode::NO_CONTENT, no_store, identity).into_response()
        }
        Err(rejection) => rejection.into_response(),
    }
}

impl Inspector {
    async fn verify(
        &self,
        parts: &mut Parts,
        requirements: QueryRequirements,
    ) -> Result<identity::Headers, Rejection> {
        let caller = self.authenticate(parts, None).await?;
        for requirement in requirements.into_requirements() {
            let met = caller.require(requirement);
            met.map_err(|rejection| rejection.with_challenges(&self.checker.challenges))?;
        }
        Ok(identity::headers(&caller))
    }
}
