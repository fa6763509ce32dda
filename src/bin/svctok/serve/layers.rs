//! The layers around all routes of the service, by tower-http where it has one.
//!
//! `SetRequestIdLayer` trusts any id that a client sends, so invalid ones are removed first.

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::IntoResponse;
use http::StatusCode;
use tower::ServiceBuilder;
use tower::layer::layer_fn;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{
    MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tower_service_token::api::request_id;
use tower_service_token::internal;
use tower_service_token::limits::ClientAddressLayer;
use tower_service_token::reject::FailureLogged;
use tracing::Span;

use super::request_log::{LogRequests, REQUEST_ID, random_id};
use super::server::EnforceBudget;

/// The store has shorter timeouts, so only a body can take this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Adds the layers of the service, from the outermost:
///
/// 1. The client's address is determined, and each request gets an id and a span.
/// 2. The response is logged and counted.
/// 3. The budget of bytes in flight ends or rejects a request.
/// 4. A handler that panics has the response 500, and a request that takes 30 s the response 408.
///
/// They are one layer of the router, which boxes a service and a future for each layer.
pub(super) fn with_layers(app: Router, client_address: ClientAddressLayer) -> Router {
    // Only for the span: the callbacks do not see the request with its response.
    let trace = TraceLayer::new_for_http()
        .make_span_with(request_span)
        .on_request(())
        .on_response(())
        .on_body_chunk(())
        .on_eos(())
        .on_failure(());
    let timeout = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT);
    let layers = ServiceBuilder::new()
        .layer(client_address)
        .map_request(without_invalid_id)
        .layer(SetRequestIdLayer::x_request_id(RandomRequestId))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(trace)
        .layer(layer_fn(LogRequests::layer()))
        .layer(layer_fn(EnforceBudget::new))
        .map_response(IntoResponse::into_response)
        .layer(CatchPanicLayer::custom(panic_response))
        .layer(timeout);
    app.layer(layers)
}

fn without_invalid_id(mut request: Request) -> Request {
    if request_id(request.headers()).is_none() {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

#[derive(Clone, Copy)]
struct RandomRequestId;

impl MakeRequestId for RandomRequestId {
    fn make_request_id<B>(&mut self, _: &http::Request<B>) -> Option<RequestId> {
        Some(RequestId::new(random_id()))
    }
}

fn request_span(request: &Request) -> Span {
    let id = request.headers().get(REQUEST_ID);
    let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
    // Only the filter `off` disables this level: audit events and errors need the id.
    tracing::error_span!("request", request_id = id)
}

/// Does not log the panic, because the panic hook does.
fn panic_response(_: Box<dyn Any + Send>) -> http::Response<Body> {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    let detail = "the request could not be processed";
    let mut response = internal::problem_response(status, "internal", detail);
    response.extensions_mut().insert(FailureLogged);
    response
}
