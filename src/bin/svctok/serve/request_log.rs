//! Identifies, logs and counts each request, by the layers of tower-http where it has one.
//!
//! Own code is what tower-http lacks:
//!
//! 1. `SetRequestIdLayer` trusts any id that a client sends. Invalid ones are removed first.
//! 2. The callbacks of `TraceLayer` do not see the request with its response. A middleware writes
//!    the line and the metrics that need both.
//! 3. A response of status 5xx has one `ERROR` line. The code that knows the cause logs it and
//!    inserts [`FailureLogged`]; this module logs the rest. Up to ten requests per second that are
//!    rejected because of a limit have a line each; beyond that, one line has their number.

use std::any::Any;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, request};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{
    MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tower_service_token::api::request_id;
use tower_service_token::internal::{self, redact_tokens};
use tower_service_token::limits::ClientAddress;
use tower_service_token::reject::FailureLogged;
use tracing::Span;

use super::log_limiter::LogLimiter;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer than any segment of a route, shorter than the secret of any token minted here.
const MAX_SEGMENT: usize = 29;

/// The store has shorter timeouts, so only a body can take this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The paths that need no token.
const PUBLIC_PATHS: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/openapi.json"];

/// Responds with 408 to a request that takes 30 s, and with 500 to one whose handler panics.
pub(super) fn with_failures_handled(app: Router) -> Router {
    let timeout = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT);
    let layers = ServiceBuilder::new()
        .layer(CatchPanicLayer::custom(panic_response))
        .layer(timeout);
    app.layer(layers)
}

/// Gives each request an id and a span, and logs and counts its response.
pub(super) fn with_request_log(app: Router) -> Router {
    // Only for the span: the callbacks do not see the request with its response.
    let trace = TraceLayer::new_for_http()
        .make_span_with(request_span)
        .on_request(())
        .on_response(())
        .on_body_chunk(())
        .on_eos(())
        .on_failure(());
    let layers = ServiceBuilder::new()
        .map_request(without_invalid_id)
        .layer(SetRequestIdLayer::x_request_id(RandomRequestId))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(trace)
        .layer(from_fn(log_request));
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

fn random_id() -> HeaderValue {
    let mut random = [0; 16];
    // A duplicate id is better than no response.
    let _ = getrandom::fill(&mut random);
    HeaderValue::try_from(hex::encode(random)).expect("hex digits are visible ASCII")
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

async fn log_request(request: Request, next: Next) -> Response {
    let method = method_label(request.method());
    let path = redact_path(request.uri().path());
    let client = ClientAddress::from_extensions(request.extensions());
    let started = Instant::now();
    let response = next.run(request).await;
    let (status, took) = (response.status(), started.elapsed());
    // The cause may be in the log already.
    if status.is_server_error() && response.extensions().get::<FailureLogged>().is_none() {
        let status = status.as_u16();
        tracing::error!(target: "svctok::request", method, path, status, "request failed");
    }
    if permits_line(status, &path) {
        tracing::info!(
            target: "svctok::request",
            method,
            path,
            client = client.map(tracing::field::display),
            status = status.as_u16(),
            duration_ms = millis(took),
            "request completed",
        );
    }
    count(method, status);
    metrics::histogram!("svctok_http_request_seconds", "method" => method).record(took);
    response
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
    count(method_label(&head.method), response.status());
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

fn count(method: &'static str, status: StatusCode) {
    let status = status.as_u16().to_string();
    metrics::counter!("svctok_http_requests_total", "method" => method, "status" => status)
        .increment(1);
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
mod tests {
    use axum::response::IntoResponse;
    use axum::routing::get;
    use http::header::CONTENT_TYPE;
    use tower::Service;

    use super::super::logs::tests::Log;
    use super::*;

    fn with_all_layers(app: Router) -> Router {
        with_request_log(with_failures_handled(app))
    }

    async fn id_for(given: &[&[u8]]) -> String {
        let mut request = Request::new(Body::empty());
        for id in given {
            let id = HeaderValue::from_bytes(id).unwrap();
            request.headers_mut().append(REQUEST_ID, id);
        }
        let response = with_all_layers(Router::new()).call(request).await.unwrap();
        response.headers()[REQUEST_ID].to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn accepts_a_valid_request_id() {
        for id in [&b"a"[..], b"0af7651916cd43dd8448eb211c80319c", &[b'x'; 128]] {
            assert_eq!(id_for(&[id]).await.as_bytes(), id);
        }
    }

    #[tokio::test]
    async fn replaces_invalid_request_ids() {
        let two: &[&[u8]] = &[b"a", b"b"];
        let bad: [&[&[u8]]; 7] = [
            &[],
            two,
            &[b""],
            &[&[b'x'; 129]],
            &[b"a b"],
            &[b"caf\xc3\xa9"],
            &[b"svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n"],
        ];
        for given in bad {
            let id = id_for(given).await;
            assert_eq!(id.len(), 32, "{given:?}");
            assert_ne!(id, id_for(given).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_request_times_out_with_408() {
        let app = Router::new().route("/", get(std::future::pending::<()>));
        let request = Request::new(Body::empty());
        let response = with_all_layers(app).call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
        assert!(response.headers().contains_key(REQUEST_ID));
    }

    /// Calls an app once, and returns the response and the log.
    async fn logged(app: Router) -> (Response, String) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(writer);
        let _guard = tracing::subscriber::set_default(subscriber.finish());
        let request = Request::builder()
            .uri("/a?token=hush")
            .header(REQUEST_ID, "b");
        let request = request.body(Body::empty()).unwrap();
        let response = with_all_layers(app).call(request).await.unwrap();
        (response, log.text())
    }

    async fn failures_logged(
        response: impl Fn() -> Response + Clone + Send + Sync + 'static,
    ) -> usize {
        let app = Router::new().route("/a", get(async move || response()));
        let (_, log) = logged(app).await;
        assert!(!log.contains("hush"), "{log}");
        let failures = log.lines().filter(|line| line.contains("request failed"));
        let failures: Vec<_> = failures.collect();
        for line in &failures {
            for part in ["ERROR", "status=503", "path=\"/a\"", "request_id=\"b\""] {
                assert!(line.contains(part), "{part}: {line}");
            }
        }
        failures.len()
    }

    #[tokio::test]
    async fn logs_failures_that_were_not_logged() {
        let unavailable = || StatusCode::SERVICE_UNAVAILABLE.into_response();
        assert_eq!(failures_logged(unavailable).await, 1);
        assert_eq!(
            failures_logged(|| StatusCode::NOT_FOUND.into_response()).await,
            0
        );
        let marked = move || {
            let mut response = unavailable();
            response.extensions_mut().insert(FailureLogged);
            response
        };
        assert_eq!(failures_logged(marked).await, 0);
    }

    #[tokio::test]
    async fn panic_responds_500_and_logs_one_line() {
        async fn panics() -> StatusCode {
            let secret = "hush".to_owned();
            panic!("cannot use {secret}")
        }
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(super::super::logs::log_panic));
        let (response, log) = logged(Router::new().route("/a", get(panics))).await;
        std::panic::set_hook(before);
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[REQUEST_ID], "b");
        let errors: Vec<_> = log.lines().filter(|it| it.contains("ERROR")).collect();
        assert_eq!(errors.len(), 1, "{log}");
        for part in ["panicked", "request_log.rs:", "request_id=\"b\""] {
            assert!(errors[0].contains(part), "{log}");
        }
        assert!(!log.contains("hush"), "{log}");
    }

    #[test]
    fn redacts_secrets_in_paths() {
        let token = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";
        let shown = redact_path(&format!("/service-tokens/{token}/rotate"));
        assert_eq!(shown, "/service-tokens/svctok-***/rotate");
        for slash in ["/", "//", "/./", "%2F", "%252F"] {
            let (left, right) = token.split_at(30);
            let shown = redact_path(&format!("/service-tokens/{left}{slash}{right}"));
            assert_eq!(shown, "/service-tokens/svctok-***");
            let (left, right) = token[18..].split_at(15);
            let shown = redact_path(&format!("/service-tokens/{left}{slash}{right}"));
            assert_eq!(shown, "/service-tokens/***");
        }
        let shown = redact_path(&format!("/service-tokens/{}/rotate", &token[18..]));
        assert_eq!(shown, "/service-tokens/***/rotate");
        let usual = "/api/v1/service-account-tokens/7Hq2mX9bTe";
        assert_eq!(redact_path(usual), usual);
    }
}
