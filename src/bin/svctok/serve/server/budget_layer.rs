use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::response::Response;
use futures_util::future::{BoxFuture, Either, FutureExt};
use http::header::RETRY_AFTER;
use http::{HeaderValue, Method, StatusCode, Uri};
use tower::Service;
use tower::layer::layer_fn;
use tower_service_token::reject::FailureLogged;

use super::exchange::{EndReason, Exchange};
use super::rejection_log::RejectionCause;
use crate::serve::request_log;

/// Ends each request whose exchange ends, and reserves the bytes of its response. Layers that log or
/// count responses belong outside, so that they see the response that is sent.
pub(crate) fn with_budget(app: Router) -> Router {
    app.layer(layer_fn(EnforceBudget::new))
}

/// The service of [`with_budget()`].
#[derive(Clone)]
pub(crate) struct EnforceBudget<S> {
    inner: S,
}

impl<S> EnforceBudget<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<Request> for EnforceBudget<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let exchange = request.extensions_mut().remove::<Arc<Exchange>>();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let responding = self.inner.call(request);
        match exchange {
            None => Either::Left(responding),
            Some(exchange) => {
                let responding = responding.map(|Ok(response)| response);
                let response = enforce_budget(exchange, method, uri, responding);
                Either::Right(response.map(Ok).boxed())
            }
        }
    }
}

async fn enforce_budget(
    exchange: Arc<Exchange>,
    method: Method,
    uri: Uri,
    responding: impl Future<Output = Response>,
) -> Response {
    let reject = |reason| reject(&exchange, reason, &method, &uri);
    let response = tokio::select! {
        biased;
        response = responding => response,
        reason = exchange.ended() => return reject(reason),
    };
    match exchange.begin_response(response.body().size_hint().exact()) {
        Ok(reservation) => {
            let mut response = response;
            if let Some(reservation) = reservation {
                response.extensions_mut().insert(Arc::new(reservation));
            }
            response
        }
        Err(reason) => reject(reason),
    }
}

fn reject(exchange: &Exchange, reason: EndReason, method: &Method, uri: &Uri) -> Response {
    let mut response = rejection_response(reason, Body::empty());
    if reason == EndReason::Overload {
        let cause = RejectionCause::Budget;
        if exchange.rejections().permits(cause) {
            // The request id is in the span.
            request_log::log_rejection(method, uri, None, cause.text());
        }
        response.extensions_mut().insert(FailureLogged);
    }
    response
}

/// Returns a response without content, so that it occupies as little as possible.
pub(super) fn rejection_response<B>(reason: EndReason, body: B) -> http::Response<B> {
    let mut response = http::Response::new(body);
    match reason {
        EndReason::Stalled => *response.status_mut() = StatusCode::REQUEST_TIMEOUT,
        EndReason::Overload => {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            let second = HeaderValue::from_static("1");
            response.headers_mut().insert(RETRY_AFTER, second);
        }
    }
    response
}
