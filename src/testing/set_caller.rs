use std::task::{Context, Poll};

use http::Request;
use tower::Service;
use tower_layer::Layer;

use super::principal::authenticated;
use crate::principal::Principal;

/// Layer that inserts one principal into every request, for tests of whole routers.
///
/// Use it in place of [`ServiceTokenLayer`](crate::ServiceTokenLayer), which removes a principal that
/// it did not insert itself.
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_service_token::authorize::RequireRolesLayer;
/// use tower_service_token::testing::{self, AuthenticatedLayer};
///
/// # futures::executor::block_on(async {
/// let service = ServiceBuilder::new()
///     .layer(AuthenticatedLayer::new(testing::principal("ci").with_roles(["deployer"])))
///     .layer(RequireRolesLayer::any_of(["deployer"]))
///     .service(service_fn(async |_: Request<String>| {
///         Ok::<_, std::convert::Infallible>(Response::new(String::new()))
///     }));
/// let response = service.oneshot(Request::new(String::new())).await?;
/// assert_eq!(response.status(), StatusCode::OK);
/// # Ok::<_, std::convert::Infallible>(())
/// # }).expect("the service is infallible");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct AuthenticatedLayer {
    principal: Principal,
}

impl AuthenticatedLayer {
    /// Creates a layer that inserts this principal.
    pub fn new(principal: impl Into<Principal>) -> Self {
        Self {
            principal: principal.into(),
        }
    }
}

impl<S> Layer<S> for AuthenticatedLayer {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Authenticated<S> {
        Authenticated {
            inner,
            principal: self.principal.clone(),
        }
    }
}

/// Middleware that inserts one principal into every request.
///
/// Created by [`AuthenticatedLayer`].
#[derive(Clone, Debug)]
pub struct Authenticated<S> {
    inner: S,
    principal: Principal,
}

impl<S, B> Service<Request<B>> for Authenticated<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        self.inner
            .call(authenticated(request, self.principal.clone()))
    }
}
