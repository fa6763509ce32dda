//! Gives each request an id and a span, and logs and counts its response.
//!
//! A response of status 5xx has one `ERROR` line. The code that knows the cause logs it and inserts
//! [`FailureLogged`]; this module logs the rest. Up to ten requests per second that are rejected
//! because of a limit have a line each; beyond that, one line has their number.

mod body_span;
mod response_metrics;

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, request};
use pin_project_lite::pin_project;
use tower::Service;
use tower_service_token::api::request_id;
use tower_service_token::internal::redact_tokens;
use tower_service_token::limits::ClientAddress;
use tower_service_token::reject::FailureLogged;
use tracing::Span;

use self::response_metrics::{ResponseMetrics, counter};
use super::log_limiter::LogLimiter;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const COMPLETED: &str = "polled after completion";

/// Longer than any segment of a route, shorter than the secret of any token minted here.
const MAX_SEGMENT: usize = 29;

/// The paths that need no token.
const PUBLIC_PATHS: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/openapi.json"];

/// Returns a request id of 32 random hexadecimal digits.
pub(super) fn random_id() -> HeaderValue {
    thread_local! {
        static RANDOM: RefCell<RandomBytes> = const { RefCell::new(RandomBytes::new()) };
    }
    let random = RANDOM.with_borrow_mut(RandomBytes::take);
    let mut digits = [0; 32];
    hex::encode_to_slice(random, &mut digits).expect("two digits per byte");
    HeaderValue::from_bytes(&digits).expect("hex digits are visible ASCII")
}

/// Random bytes for 64 ids: a system call for each id costs more than the id.
struct RandomBytes {
    unused: usize,
    bytes: [[u8; 16]; 64],
}

impl RandomBytes {
    const fn new() -> Self {
        Self {
            unused: 0,
            bytes: [[0; 16]; 64],
        }
    }

    fn take(&mut self) -> [u8; 16] {
        if self.unused == 0 {
            // A duplicate id is better than no response.
            let _ = getrandom::fill(self.bytes.as_flattened_mut());
            self.unused = self.bytes.len();
        }
        self.unused -= 1;
        self.bytes[self.unused]
    }
}

/// Sets the id of each request and its response, calls the inner service in a span with it, and logs
/// and counts the response.
#[derive(Clone)]
pub(super) struct LogRequests<S> {
    inner: S,
    metrics: Arc<ResponseMetrics>,
}

impl<S> LogRequests<S> {
    /// Creates a function that wraps services. These share the handles of their metrics.
    pub(super) fn layer() -> impl Fn(S) -> Self + Clone {
        let metrics = Arc::<ResponseMetrics>::default();
        move |inner| Self {
            inner,
            metrics: Arc::clone(&metrics),
        }
    }
}

impl<S> Service<Request> for LogRequests<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = LoggedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let request_id = set_request_id(request.headers_mut());
        let request_line = RequestLine {
            span: request_span(&request_id),
            request_id,
            method: method_label(request.method()),
            uri: request.uri().clone(),
            client: ClientAddress::from_extensions(request.extensions()),
            metrics: Arc::clone(&self.metrics),
            started: Instant::now(),
        };
        let entered = request_line.span.enter();
        let responding = self.inner.call(request);
        drop(entered);
        LoggedFuture {
            responding,
            request_line: Some(request_line),
        }
    }
}

pin_project! {
    /// Response future of [`LogRequests`].
    pub(super) struct LoggedFuture<F> {
        #[pin]
        responding: F,
        request_line: Option<RequestLine>,
    }
}

/// What the log line of a request needs.
struct RequestLine {
    span: Span,
    request_id: HeaderValue,
    method: &'static str,
    uri: Uri,
    client: Option<ClientAddress>,
    metrics: Arc<ResponseMetrics>,
    started: Instant,
}

impl<F> Future for LoggedFuture<F>
where
    F: Future<Output = Result<Response, Infallible>>,
{
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let request_line = this.request_line.as_ref().expect(COMPLETED);
        let entered = request_line.span.enter();
        let Ok(response) = ready!(this.responding.poll(cx));
        let took = request_line.started.elapsed();
        request_line.log(&response, took);
        drop(entered);
        let request_line = this.request_line.take().expect(COMPLETED);
        Poll::Ready(Ok(request_line.finish(response, took)))
    }
}

impl RequestLine {
    fn log(&self, response: &Response, took: Duration) {
        log_response(self.method, self.uri.path(), self.client, response, took);
    }

    fn finish(self, mut response: Response, took: Duration) -> Response {
        self.metrics.record(self.method, response.status(), took);
        response.headers_mut().insert(REQUEST_ID, self.request_id);
        body_span::in_span(response, self.span)
    }
}

/// Returns the request id. An invalid one, or none, is replaced by a random one.
fn set_request_id(headers: &mut HeaderMap) -> HeaderValue {
    if let Some(id) = request_id(headers) {
        return id.clone();
    }
    let id = random_id();
    headers.insert(REQUEST_ID, id.clone());
    id
}

fn request_span(request_id: &HeaderValue) -> Span {
    let id = request_id.to_str().unwrap_or_default();
    // Only the filter `off` disables this level: audit events and errors need the id.
    tracing::error_span!("request", request_id = id)
}

fn log_response(
    method: &'static str,
    path: &str,
    client: Option<ClientAddress>,
    response: &Response,
    took: Duration,
) {
    let status = response.status();
    // The cause may be in the log already.
    if status.is_server_error() && response.extensions().get::<FailureLogged>().is_none() {
        let (path, status) = (redact_path(path), status.as_u16());
        tracing::error!(target: "svctok::request", method, path, status, "request failed");
    }
    if permits_line(status, path) {
        tracing::info!(
            target: "svctok::request",
            method,
            path = redact_path(path),
            client = client.map(tracing::field::display),
            status = status.as_u16(),
            duration_ms = millis(took),
            "request completed",
        );
    }
}

/// Takes a permit for the log line of a request. Logs how many lines were skipped before it. Requests
/// that are rejected or need no token are limited.
fn permits_line(status: StatusCode, path: &str) -> bool {
    static LIMITER: LogLimiter = LogLimiter::for_clients();
    if !status.is_client_error() && !PUBLIC_PATHS.contains(&path) {
        return true;
    }
    let skipped = LIMITER.next_counted();
    if let Some(count @ 1..) = skipped {
        tracing::info!(target: "svctok::request", count, "skipped lines of requests without a valid token");
    }
    skipped.is_some()
}

/// Counts a response that is sent before any layer sees the request, and sets its request id, which
/// is returned.
pub(super) fn count_rejection<B>(
    head: &request::Parts,
    response: &mut http::Response<B>,
) -> HeaderValue {
    let id = request_id(&head.headers).cloned().unwrap_or_else(random_id);
    response.headers_mut().insert(REQUEST_ID, id.clone());
    counter(method_label(&head.method), response.status()).increment(1);
    id
}

/// Logs that a request is rejected with 503 because of a limit. Within the span of a request, the id
/// may be `None`.
pub(super) fn log_rejection(
    request_method: &Method,
    uri: &Uri,
    request_id: Option<&HeaderValue>,
    cause: &'static str,
) {
    tracing::error!(
        target: "svctok::request",
        request_id = request_id.and_then(|id| id.to_str().ok()),
        method = method_label(request_method),
        path = redact_path(uri.path()),
        status = StatusCode::SERVICE_UNAVAILABLE.as_u16(),
        cause,
        "request rejected",
    );
}

/// Returns milliseconds, rounded to a microsecond.
fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// Returns the name of a standard method: clients must not create labels.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// Returns the path without segments that may be secrets.
fn redact_path(path: &str) -> String {
    // On the whole path, because a secret may be in two segments.
    let path = redact_tokens(path);
    let shown = path.split('/').map(|segment| match segment.len() {
        0..=MAX_SEGMENT => segment,
        _ => "***",
    });
    shown.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests;
