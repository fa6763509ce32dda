//! Logs and counts each request.
//!
//! The callbacks of tower-http's `TraceLayer` do not see the request with its response, so a service
//! of its own writes the line and the metrics that need both.
//!
//! A response of status 5xx has one `ERROR` line. The code that knows the cause logs it and inserts
//! [`FailureLogged`]; this module logs the rest. Up to ten requests per second that are rejected
//! because of a limit have a line each; beyond that, one line has their number.

mod response_metrics;

use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::response::Response;
use futures_util::future::{BoxFuture, FutureExt};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, request};
use tower::Service;
use tower_service_token::api::request_id;
use tower_service_token::internal::redact_tokens;
use tower_service_token::limits::ClientAddress;
use tower_service_token::reject::FailureLogged;

use self::response_metrics::{ResponseMetrics, counter};
use super::log_limiter::LogLimiter;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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

/// Logs and counts each response of the inner service.
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
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (method, uri) = (method_label(request.method()), request.uri().clone());
        let client = ClientAddress::from_extensions(request.extensions());
        let metrics = Arc::clone(&self.metrics);
        let started = Instant::now();
        let responding = self.inner.call(request);
        async move {
            let response = responding.await?;
            let took = started.elapsed();
            log_response(method, uri.path(), client, &response, took);
            metrics.record(method, response.status(), took);
            Ok(response)
        }
        .boxed()
    }
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
