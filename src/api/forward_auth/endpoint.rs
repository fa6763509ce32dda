use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any_service;
use futures_util::future::{BoxFuture, Either, FutureExt, Ready, ready};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use tower::Service;

use super::identity::{IdentityCache, identity_headers};
use super::prefix::VerifyPrefix;
use super::query::{InvalidQuery, QueryRequirements};
use crate::limits::{FailureLimit, RequestOrigin};
use crate::middleware::{Checked, Checker, ServiceTokenLayer};
use crate::observe::{self, RequestInfo};
use crate::principal::{Principal, Requirement};
use crate::reject::{Rejection, RejectionReason};

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
            checker: self.layer.into_checker(false),
            accepted: self.accepted,
            identities: Arc::default(),
            requirements: None,
        };
        let service = |endpoint| any_service(VerifyService(Arc::new(endpoint)));
        let mut router = Router::new().route("/verify", service(endpoint.clone()));
        for prefix in self.prefixes {
            let paths = prefix.paths();
            let service = service(Endpoint {
                requirements: Some(prefix.into_requirements()),
                ..endpoint.clone()
            });
            for path in paths {
                router = router.route(&path, service.clone());
            }
        }
        router
    }
}

/// The configuration of one path.
#[derive(Clone)]
struct Endpoint {
    checker: Arc<Checker>,
    /// The status of the response to a valid token.
    accepted: StatusCode,
    identities: Arc<IdentityCache>,
    /// `None` if they are in the query. The path and the query of a prefix are those of another
    /// request.
    requirements: Option<Arc<[Arc<Requirement>]>>,
}

/// The service of an [`Endpoint`]. A handler would box a future for each request, although most tokens
/// are in memory.
#[derive(Clone)]
struct VerifyService(Arc<Endpoint>);

impl Service<Request> for VerifyService {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<
        Ready<Result<Response, Infallible>>,
        BoxFuture<'static, Result<Response, Infallible>>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self(endpoint) = self;
        let (mut parts, _) = request.into_parts();
        let respond_now = |response| Either::Left(ready(Ok(response)));
        let requirements = match endpoint.requirements(&parts) {
            Ok(requirements) => requirements,
            Err(error) => return respond_now(error.into_response()),
        };
        let origin = RequestOrigin::from_extensions(&parts.extensions);
        let checker = &endpoint.checker;
        let caller = match checker.check(&mut parts.headers) {
            Checked::Accepted(caller) => Ok(caller),
            Checked::Rejected(rejection) => Err(checker.reject_without_lookup(rejection, origin)),
            // It is required, even if the layer makes it optional.
            Checked::NoToken => Err(checker.reject(RejectionReason::MissingToken)),
            Checked::NeedsLookup(credential) => {
                let lookup = Arc::clone(checker).authenticate(credential, origin);
                let (endpoint, info) = (Arc::clone(endpoint), RequestInfo::from(&parts));
                let response = lookup.map(move |caller| {
                    let caller = endpoint.authorize(caller, &requirements);
                    // Without a cache, each lookup returns another record.
                    let headers = caller.map(|caller| identity_headers(&caller));
                    Ok(endpoint.respond(headers, || info))
                });
                return Either::Right(response.boxed());
            }
        };
        let caller = endpoint.authorize(caller, &requirements);
        let headers = caller.map(|caller| endpoint.identities.headers_of(&caller));
        respond_now(endpoint.respond(headers, || RequestInfo::from(&parts)))
    }
}

impl Endpoint {
    fn requirements(&self, parts: &Parts) -> Result<Arc<[Arc<Requirement>]>, InvalidQuery> {
        if let Some(requirements) = &self.requirements {
            return Ok(Arc::clone(requirements));
        }
        let requirements = QueryRequirements::from_query(parts.uri.query())?;
        Ok(requirements.into_requirements().map(Arc::new).collect())
    }

    /// Counts the outcome of the check, and requires what the path does.
    fn authorize(
        &self,
        caller: Result<Principal, Rejection>,
        requirements: &[Arc<Requirement>],
    ) -> Result<Principal, Rejection> {
        let Checker {
            outcomes,
            challenges,
            ..
        } = &*self.checker;
        let caller = caller.inspect_err(|rejection| outcomes.rejected(rejection))?;
        outcomes.accepted();
        let met = caller.require_all(requirements.iter().cloned());
        met.map_err(|rejection| rejection.with_challenges(challenges))?;
        Ok(caller)
    }

    fn respond(
        &self,
        headers: Result<HeaderMap, Rejection>,
        request: impl FnOnce() -> RequestInfo,
    ) -> Response {
        match headers {
            Ok(headers) => {
                let mut response = self.accepted.into_response();
                *response.headers_mut() = headers;
                response
            }
            Err(mut rejection) => {
                observe::log(&mut rejection, request);
                rejection.into_response()
            }
        }
    }
}
