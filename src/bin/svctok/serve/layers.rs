//! The layers around all routes of the service.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use futures_util::future::FutureExt;
use http::StatusCode;
use tower::layer::layer_fn;
use tower::{Service, ServiceBuilder};
use tower_service_token::internal;
use tower_service_token::limits::ClientAddressLayer;
use tower_service_token::reject::FailureLogged;

use super::request_log::LogRequests;
use super::server::EnforceBudget;

/// Adds the layers of the service, from the outermost:
///
/// 1. The client's address is determined.
/// 2. The request gets an id and a span. Its response is logged and counted.
/// 3. The budget of bytes in flight ends or rejects a request, and one that takes 30 s has the
///    response 408.
/// 4. A handler that panics has the response 500.
///
/// They are in front of the router and not in it, because a router boxes a clone of its layers and
/// their future for each request.
pub(super) fn with_layers(
    app: Router,
    client_address: ClientAddressLayer,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + Sync
{
    ServiceBuilder::new()
        .layer(client_address)
        .layer(layer_fn(LogRequests::layer()))
        .layer(layer_fn(EnforceBudget::new))
        .map_future(catch_panic)
        .service(app)
}

/// Turns a panic into a response. A router calls its handlers and their layers when its future is
/// polled; what it does before, the choice of a route, is outside.
fn catch_panic(
    responding: impl Future<Output = Result<Response, Infallible>>,
) -> impl Future<Output = Result<Response, Infallible>> {
    let caught = AssertUnwindSafe(responding).catch_unwind();
    caught.map(|result| result.unwrap_or_else(|panic| Ok(panic_response(panic))))
}

/// Does not log the panic, because the panic hook does.
fn panic_response(_: Box<dyn Any + Send>) -> Response {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    let detail = "the request could not be processed";
    let mut response = internal::problem_response(status, "internal", detail);
    response.extensions_mut().insert(FailureLogged);
    response
}
