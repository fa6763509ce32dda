//! The request of every bench. It is sent on this thread and polled once, without a runtime.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use axum::body::Body;
use http::header::{ACCEPT, AUTHORIZATION, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Request};
use tower::Service;

/// `Authorization: ApiKey <token>` and three headers that any client sends.
pub(crate) fn request_with(token: &str) -> Request<Body> {
    request_with_header(AUTHORIZATION, &format!("ApiKey {token}"))
}

pub(crate) fn request_with_header(name: HeaderName, value: &str) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    let headers: &mut HeaderMap = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_static("api.example.com"));
    headers.insert(USER_AGENT, HeaderValue::from_static("deployer/1.4.2"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(name, value.parse().expect("visible ASCII"));
    request
}

/// Returns the response of a service that never waits.
///
/// # Panics
///
/// Panics if the service is not ready at the first poll.
pub(crate) fn call<S, Req>(service: &mut S, request: Req) -> S::Response
where
    S: Service<Req, Error = Infallible>,
{
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(())) = service.poll_ready(&mut context) else {
        panic!("the service is not ready");
    };
    match pin!(service.call(request)).poll(&mut context) {
        Poll::Ready(Ok(response)) => response,
        Poll::Pending => panic!("the response is not ready"),
    }
}
