use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CACHE_CONTROL;
use http::request::Parts;

use super::super::inspector::Inspector;
use super::super::request_log::LogFailuresLayer;
use super::identity;
use super::required_grants::RequiredGrants;
use crate::limits::FailureLimit;
use crate::middleware::ServiceTokenLayer;
use crate::reject::Rejection;

/// Makes the router of `/verify`.
///
/// See the [module](super) for the rules and an example.
#[derive(Clone)]
#[must_use]
pub struct ForwardAuth {
    layer: ServiceTokenLayer,
}

impl ForwardAuth {
    /// Checks tokens as `layer` does, by `ApiKey` and `Bearer` in any case. Whether it is optional
    /// and its response builder mean nothing here.
    pub fn new(layer: ServiceTokenLayer) -> Self {
        Self { layer }
    }

    /// Sets what unknown tokens may cost; `None` sets no limit. The default is the limit of the
    /// layer, or else [`FailureLimit::new`].
    pub fn with_failure_limit(mut self, limit: impl Into<Option<FailureLimit>>) -> Self {
        self.layer = self.layer.with_failure_limit(limit);
        self
    }

    /// The router, for an app with any state.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let inspector = Inspector {
            checker: self.layer.into_checker(false),
        };
        Router::new()
            .route("/verify", get(handle).post(handle))
            .route_layer(LogFailuresLayer)
            .with_state(Arc::new(inspector))
    }
}

impl fmt::Debug for ForwardAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardAuth")
            .field("layer", &self.layer)
            .finish()
    }
}

async fn handle(State(inspector): State<Arc<Inspector>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let grants = match RequiredGrants::from_query(parts.uri.query()) {
        Ok(grants) => grants,
        Err(error) => return error.into_response(),
    };
    match inspector.verify(&mut parts, grants).await {
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
        grants: RequiredGrants,
    ) -> Result<identity::Headers, Rejection> {
        let caller = self.authenticate(parts, None).await?;
        for requirement in grants.into_requirements() {
            let met = caller.require(requirement);
            met.map_err(|rejection| rejection.with_challenges(&self.checker.challenges))?;
        }
        Ok(identity::headers(&caller))
    }
}
