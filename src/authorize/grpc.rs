use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::Service;
use tower_layer::Layer;

use super::future::GuardFuture;
use super::guard::{CallerRef, authorize, record};
use crate::principal::Requirement;
use crate::reject::{GrpcStatus, Rejection, RejectionReason, ResponseForRejection};

/// Layer that applies the [`GrpcMethodGuard`] middleware: one table of what each method of a gRPC
/// server requires.
///
/// 1. A method is named by its full name, `package.Service/Method`, with or without a `/` in front. Upper
///    and lower case differ.
/// 2. The last entry for a method applies.
/// 3. A method without an entry is rejected: 403 for every caller, 401 without one. So a method that is
///    added to the server stays closed until it is added here.
///
/// The default response is [`GrpcStatus`].
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_service_token::authorize::GrpcMethodGuardLayer;
/// use tower_service_token::principal::Requirement;
/// use tower_service_token::reject::GrpcStatus;
/// use tower_service_token::{MemoryStore, ServiceTokenLayer};
///
/// let methods = GrpcMethodGuardLayer::new()
///     .with_method("jobs.v1.Jobs/List", Requirement::any_scope(["jobs:read"]))
///     .with_method("jobs.v1.Jobs/Start", Requirement::all_scopes(["jobs:write"]))
///     .with_authenticated_method("jobs.v1.Jobs/WhoAmI")
///     .with_public_method("grpc.health.v1.Health/Check");
///
/// let layer = ServiceBuilder::new()
///     // Optional, or a request without a token does not reach the public method.
///     .layer(
///         ServiceTokenLayer::new(MemoryStore::new())
///             .optional()
///             .with_rejection_response(GrpcStatus),
///     )
///     .layer(methods);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct GrpcMethodGuardLayer<R = GrpcStatus> {
    methods: Arc<HashMap<Box<str>, Access>>,
    rejection_response: R,
}

/// Who may call a method.
#[derive(Clone, Debug)]
enum Access {
    Anyone,
    AnyCaller,
    Callers(Arc<Requirement>),
}

impl GrpcMethodGuardLayer {
    /// Creates an empty table, which rejects every request.
    pub fn new() -> Self {
        Self {
            methods: Arc::default(),
            rejection_response: GrpcStatus,
        }
    }
}

impl Default for GrpcMethodGuardLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> GrpcMethodGuardLayer<R> {
    /// Adds a method whose callers must meet this requirement.
    pub fn with_method(self, method: &str, requirement: impl Into<Arc<Requirement>>) -> Self {
        self.with_access(method, Access::Callers(requirement.into()))
    }

    /// Adds a method that every caller may call. A request without a caller is rejected.
    pub fn with_authenticated_method(self, method: &str) -> Self {
        self.with_access(method, Access::AnyCaller)
    }

    /// Adds a method that requires no caller. The layer in front must be
    /// [optional](crate::ServiceTokenLayer::optional), or rejects a request without a token.
    pub fn with_public_method(self, method: &str) -> Self {
        self.with_access(method, Access::Anyone)
    }

    /// Sets the builder of the responses to rejected requests. The default is [`GrpcStatus`].
    pub fn with_rejection_response<T: Clone>(
        self,
        rejection_response: T,
    ) -> GrpcMethodGuardLayer<T> {
        GrpcMethodGuardLayer {
            methods: self.methods,
            rejection_response,
        }
    }

    fn with_access(mut self, method: &str, access: Access) -> Self {
        Arc::make_mut(&mut self.methods).insert(full_name(method).into(), access);
        self
    }
}

impl<S, R: Clone> Layer<S> for GrpcMethodGuardLayer<R> {
    type Service = GrpcMethodGuard<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        GrpcMethodGuard {
            inner,
            layer: self.clone(),
        }
    }
}

/// Middleware that checks the caller by the method of a gRPC request.
///
/// Created by [`GrpcMethodGuardLayer`].
#[derive(Clone, Debug)]
pub struct GrpcMethodGuard<S, R = GrpcStatus> {
    inner: S,
    layer: GrpcMethodGuardLayer<R>,
}

impl<S, R> GrpcMethodGuard<S, R> {
    fn check<B>(&self, request: &Request<B>) -> Result<(), Rejection> {
        let (headers, extensions) = (request.headers(), request.extensions());
        let method = full_name(request.uri().path());
        let requirement = match self.layer.methods.get(method) {
            Some(Access::Anyone) => return Ok(()),
            Some(Access::AnyCaller) => None,
            Some(Access::Callers(requirement)) => Some(requirement),
            None => {
                let caller = authorize(None, headers, extensions)?;
                return Err(record(reject_unlisted(caller), headers, extensions));
            }
        };
        authorize(requirement, headers, extensions).map(drop)
    }
}

impl<S, R, ReqBody, ResBody> Service<Request<ReqBody>> for GrpcMethodGuard<S, R>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    R: ResponseForRejection<ResBody>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = GuardFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        match self.check(&request) {
            Ok(()) => GuardFuture::accepted(self.inner.call(request)),
            Err(rejection) => GuardFuture::rejected(rejection, &mut self.layer.rejection_response),
        }
    }
}

/// Returns the name of a method without the `/` that its path begins with.
fn full_name(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path)
}

fn reject_unlisted(caller: CallerRef<'_>) -> Rejection {
    let rejection = match caller {
        CallerRef::Token(principal) => {
            let rejection = Rejection::new(RejectionReason::InsufficientScope);
            rejection.with_principal(principal)
        }
        CallerRef::Identity(_) => Rejection::new(RejectionReason::IdentityInsufficientScope),
    };
    rejection.with_source(UnlistedMethod)
}

#[derive(Debug, thiserror::Error)]
#[error("the gRPC method has no entry in the GrpcMethodGuardLayer")]
struct UnlistedMethod;
