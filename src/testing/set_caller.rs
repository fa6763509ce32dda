use std::task::{Context, Poll};

use http::Request;
use tower::Service;
use tower_layer::Layer;

use super::request::insert;
use crate::authorize::Caller;

/// Layer that applies the [`SetCaller`] middleware, for tests of whole routers.
///
/// Use it in place of [`ServiceTokenLayer`](crate::ServiceTokenLayer), which removes a caller that it did
/// not insert itself.
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_service_token::authorize::RequireRolesLayer;
/// use tower_service_token::testing::{self, SetCallerLayer};
///
/// # futures::executor::block_on(async {
/// let service = ServiceBuilder::new()
///     .layer(SetCallerLayer::new(testing::principal("ci").with_roles(["deployer"])))
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
pub struct SetCallerLayer {
    caller: Option<Caller>,
}

impl SetCallerLayer {
    /// Creates a layer that inserts this [`Principal`](crate::Principal) or
    /// [`Identity`](crate::principal::Identity) into every request, as
    /// [`authenticated`](super::authenticated) does.
    pub fn new(caller: impl Into<Caller>) -> Self {
        Self {
            caller: Some(caller.into()),
        }
    }

    /// Creates a layer that marks every request as one without a caller, as
    /// [`anonymous`](super::anonymous) does.
    pub fn anonymous() -> Self {
        Self { caller: None }
    }
}

impl<S> Layer<S> for SetCallerLayer {
    type Service = SetCaller<S>;

    fn layer(&self, inner: S) -> SetCaller<S> {
        SetCaller {
            inner,
            caller: self.caller.clone(),
        }
    }
}

/// Middleware that inserts one caller into every request, or none.
///
/// Created by [`SetCallerLayer`].
#[derive(Clone, Debug)]
pub struct SetCaller<S> {
    inner: S,
    caller: Option<Caller>,
}

impl<S, B> Service<Request<B>> for SetCaller<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        insert(request.extensions_mut(), self.caller.clone());
        self.inner.call(request)
    }
}
