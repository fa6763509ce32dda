use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::response::Response;
use futures_util::future::{BoxFuture, FutureExt};
use http::header::RETRY_AFTER;
use http::{HeaderValue, Method, StatusCode, Uri};
use pin_project_lite::pin_project;
use tokio::time::timeout;
use tower::Service;
use tower_service_token::reject::FailureLogged;

use super::exchange::{EndReason, Exchange};
use super::rejection_log::RejectionCause;
use crate::serve::request_log;

const COMPLETED: &str = "polled after completion";

/// The store has shorter timeouts, so only a body can take this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Ends each request whose exchange ends or that takes 30 s, and reserves the bytes of its response.
/// Layers that log or count responses belong outside, so that they see the response that is sent.
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
{
    type Response = Response;
    type Error = Infallible;
    type Future = BudgetFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let exchange = request.extensions_mut().remove::<Arc<Exchange>>();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        BudgetFuture {
            responding: Some(self.inner.call(request)),
            request: BudgetedRequest {
                exchange,
                method,
                uri,
            },
            ended: None,
        }
    }
}

pin_project! {
    /// Response future of [`EnforceBudget`].
    pub(crate) struct BudgetFuture<F> {
        #[pin]
        responding: Option<F>,
        request: BudgetedRequest,
        // Only for a request that waits for something.
        ended: Option<BoxFuture<'static, Option<EndReason>>>,
    }
}

struct BudgetedRequest {
    /// `None` if there is no server.
    exchange: Option<Arc<Exchange>>,
    method: Method,
    uri: Uri,
}

impl<F> Future for BudgetFuture<F>
where
    F: Future<Output = Result<Response, Infallible>>,
{
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let responding = this.responding.as_mut().as_pin_mut();
        let response = if let Poll::Ready(Ok(response)) = responding.expect(COMPLETED).poll(cx) {
            this.request.begin_response(response)
        } else {
            let ended = this.ended.get_or_insert_with(|| this.request.ended());
            let reason = ready!(ended.as_mut().poll(cx));
            // Here, so that what the handler logs when it is dropped is in the span.
            this.responding.set(None);
            match reason {
                Some(reason) => this.request.reject(reason),
                None => this.request.time_out(),
            }
        };
        this.responding.set(None);
        Poll::Ready(Ok(response))
    }
}

impl BudgetedRequest {
    /// Waits until the service ends the exchange. Returns `None` if the request takes too long.
    fn ended(&self) -> BoxFuture<'static, Option<EndReason>> {
        let exchange = self.exchange.clone();
        let ended = async move {
            match exchange {
                Some(exchange) => exchange.ended().await,
                None => pending().await,
            }
        };
        timeout(REQUEST_TIMEOUT, ended).map(Result::ok).boxed()
    }

    fn time_out(&self) -> Response {
        self.begin_response(rejection_response(EndReason::Stalled, Body::empty()))
    }

    fn begin_response(&self, mut response: Response) -> Response {
        let Some(exchange) = &self.exchange else {
            return response;
        };
        match exchange.begin_response(response.body().size_hint().exact()) {
            Ok(reservation) => {
                if let Some(reservation) = reservation {
                    response.extensions_mut().insert(Arc::new(reservation));
                }
                response
            }
            Err(reason) => self.reject(reason),
        }
    }

    fn reject(&self, reason: EndReason) -> Response {
        let mut response = rejection_response(reason, Body::empty());
        if let (Some(exchange), EndReason::Overload) = (&self.exchange, reason) {
            let cause = RejectionCause::Budget;
            if exchange.rejections().permits(cause) {
                // The request id is in the span.
                request_log::log_rejection(&self.method, &self.uri, None, cause.text());
            }
            response.extensions_mut().insert(FailureLogged);
        }
        response
    }
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
