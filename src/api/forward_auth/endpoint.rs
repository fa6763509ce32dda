use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::StatusCode;
use http::request::Parts;

use super::identity::identity_headers;
use super::prefix::VerifyPrefix;
use super::query::QueryRequirements;
use crate::api::inspector::Inspector;
use crate::api::request_log::LogFailuresLayer;
use crate::limits::FailureLimit;
use crate::middleware::ServiceTokenLayer;
use crate::principal::{Principal, Requirement};
use crate::reject::Rejection;

/// Builds the router of `/verify`.
///
/// See the [module](super) for the rules and an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct ForwardAuth {
    layer: ServiceTokenLayer,
    accepted: StatusCode,
    prefixes: Vec<VerifyPrefix>,
}

impl ForwardAuth {
    /// Creates an endpoint that checks tokens as `layer` does, and always accepts `ApiKey` and
    /// `Bearer`. It ignores the layer's response builder and whether it is optional.
    pub fn new(layer: ServiceTokenLayer) -> Self {
        Self {
            layer,
            accepted: StatusCode::OK,
            prefixes: Vec::new(),
        }
    }

    /// Responds to a valid token with 204 (no content). The default is 200 with an empty body, because
    /// some proxies take no other status for access.
    pub fn respond_with_no_content(mut self) -> Self {
        self.accepted = StatusCode::NO_CONTENT;
        self
    }

    /// Adds a path below `/verify` for a proxy that appends the path and query of the original request.
    /// By default there is none.
    ///
    /// If several prefixes have the same name, all of their requirements must be met.
    pub fn with_prefix(mut self, prefix: VerifyPrefix) -> Self {
        match self
            .prefixes
            .iter_mut()
            .find(|it| it.has_same_name(&prefix))
        {
            Some(first) => first.extend(prefix),
            None => self.prefixes.push(prefix),
        }
        self
    }

    /// Limits unknown tokens. `None` sets no limit. The default is the limit of the layer, or else
    /// [`FailureLimit::new`].
    pub fn with_failure_limit(mut self, limit: impl Into<Option<FailureLimit>>) -> Self {
        self.layer = self.layer.with_failure_limit(limit);
        self
    }

    /// Builds the router, for an app with any state.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let endpoint = Endpoint {
            inspector: Inspector {
                checker: self.layer.into_checker(false),
            },
            accepted: self.accepted,
        };
        let mut router = Router::new().route("/verify", any(handle));
        for prefix in self.prefixes {
            let paths = prefix.paths();
            let requirements = prefix.into_requirements();
            // The path and the query are those of another request.
            let handle = any(
                async move |State(endpoint): State<Arc<Endpoint>>, request: Request| {
                    let requirements = requirements.iter().cloned();
                    endpoint.respond(request, requirements).await
                },
            );
            for path in paths {
                router = router.route(&path, handle.clone());
            }
        }
        router
            .route_layer(LogFailuresLayer)
            .with_state(Arc::new(endpoint))
    }
}

async fn handle(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    match QueryRequirements::from_query(request.uri().query()) {
        Ok(requirements) => {
            let requirements = requirements.into_requirements().map(Arc::new);
            endpoint.respond(request, requirements).await
        }
        Err(error) => error.into_response(),
    }
}

struct Endpoint {
    inspector: Inspector,
    /// The status of the response to a valid token.
    accepted: StatusCode,
}

impl Endpoint {
    async fn respond(
        &self,
        request: Request,
        requirements: impl Iterator<Item = Arc<Requirement>> + Send,
    ) -> Response {
        let (mut parts, _) = request.into_parts();
        match self.verify(&mut parts, requirements).await {
            Ok(caller) => {
                let mut response = self.accepted.into_response();
                *response.headers_mut() = identity_headers(&caller);
                response
            }
            Err(rejection) => rejection.into_response(),
        }
    }

    async fn verify(
        &self,
        parts: &mut Parts,
        requirements: impl Iterator<Item = Arc<Requirement>> + Send,
    ) -> Result<Principal, Rejection> {
        let caller = self.inspector.authenticate(parts, None).await?;
        let challenges = &self.inspector.checker.challenges;
        let met = caller.require_all(requirements);
        met.map_err(|rejection| rejection.with_challenges(challenges))?;
        Ok(caller)
    }
}
