//! Logs, counts and identifies each request.
//!
//! A response of status 5xx has one `ERROR` line. The code that knows the cause logs it and inserts
//! [`FailureLogged`]; this module logs the rest. A panic in a handler becomes a 500. Up to ten
//! rejections for want of room have a line each per second; beyond that, one line has their number.

use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, request};
use tokio::time::timeout;
use tower_service_token::limits::ClientAddress;
use tower_service_token::reject::FailureLogged;
use tracing::Instrument;

use super::line_limit::{LineDecision, LineLimit};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_REQUEST_ID: usize = 128;

/// Longer than any segment of a route, shorter than any token minted here.
const MAX_SEGMENT: usize = 32;

/// The store has shorter timeouts, so only a body can take this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What is served without a token.
const PUBLIC_PATHS: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/openapi.json"];

const INTERNAL_ERROR: &str = r#"{"type":"about:blank","title":"Internal Server Error","status":500,"detail":"the request could not be processed","code":"internal"}"#;

pub(super) fn with_request_log(app: Router) -> Router {
    app.layer(from_fn(log_request))
}

async fn log_request(mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let method = method_label(request.method());
    let path = redact_path(request.uri().path());
    let client = ClientAddress::from_extensions(request.extensions());
    // Only the filter `off` disables this level: audit events and errors need the id.
    let span = tracing::error_span!("request", request_id = id.to_str().unwrap_or_default());
    let observed = async {
        let started = Instant::now();
        let mut response = respond(next, request).await;
        log_failure(&response, method, &path);
        let (status, took) = (response.status(), started.elapsed());
        if is_logged_line(status, &path) {
            tracing::info!(
                target: "svctok::request",
                method,
                path,
                client = client.map(tracing::field::display),
                status = status.as_u16(),
                duration_ms = millis(took),
                "answered",
            );
        }
        count(method, status, took);
        response.headers_mut().insert(REQUEST_ID, id);
        response
    };
    observed.instrument(span).await
}

/// Returns whether a request gets its line in the log. Requests that are rejected, or need no token,
/// have a limited number per second.
fn is_logged_line(status: StatusCode, path: &str) -> bool {
    static LIMIT: LazyLock<LineLimit> = LazyLock::new(LineLimit::new);
    if !status.is_client_error() && !PUBLIC_PATHS.contains(&path) {
        return true;
    }
    match LIMIT.next(Instant::now()) {
        LineDecision::Log { skipped } => {
            if let Some(count) = skipped {
                tracing::info!(target: "svctok::request", count, "skipped lines of requests without a valid token");
            }
            true
        }
        LineDecision::Skip => false,
    }
}

async fn respond(next: Next, request: Request) -> Response {
    let response = timeout(REQUEST_TIMEOUT, next.run(request));
    match AssertUnwindSafe(response).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => StatusCode::REQUEST_TIMEOUT.into_response(),
        // The panic hook logs it.
        Err(_) => {
            let content_type = [(CONTENT_TYPE, "application/problem+json")];
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            let mut response = (status, content_type, INTERNAL_ERROR).into_response();
            response.extensions_mut().insert(FailureLogged);
            response
        }
    }
}

fn log_failure(response: &Response, method: &'static str, path: &str) {
    if response.status().is_server_error() && !is_logged(response) {
        let status = response.status().as_u16();
        tracing::error!(target: "svctok::request", method, path, status, "request failed");
    }
}

/// Returns whether the cause of a failure is in the log.
fn is_logged(response: &Response) -> bool {
    response.extensions().get::<FailureLogged>().is_some()
}

/// Counts a response that was made before any layer saw the request, and gives it a request id,
/// which is returned.
pub(super) fn count_rejection<B>(
    head: &request::Parts,
    response: &mut http::Response<B>,
) -> HeaderValue {
    let id = request_id(&head.headers);
    response.headers_mut().insert(REQUEST_ID, id.clone());
    count_status(method_label(&head.method), response.status());
    id
}

/// Logs that a request was answered by 503 for want of room. Within the span of a request, its id
/// need not be given.
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

fn count(method: &'static str, status: StatusCode, took: Duration) {
    count_status(method, status);
    metrics::histogram!("svctok_http_request_seconds", "method" => method).record(took);
}

fn count_status(method: &'static str, status: StatusCode) {
    let status = status.as_u16().to_string();
    metrics::counter!("svctok_http_requests_total", "method" => method, "status" => status)
        .increment(1);
}

/// Returns milliseconds, rounded to a microsecond.
fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// Returns the client's request id if it is valid and is not a token, else a random one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let mut given = headers.get_all(REQUEST_ID).iter();
    if let (Some(id), None) = (given.next(), given.next())
        && (1..=MAX_REQUEST_ID).contains(&id.len())
        && id.as_bytes().iter().all(u8::is_ascii_graphic)
        && !id.as_bytes().windows(7).any(|part| part == b"svctok-")
    {
        return id.clone();
    }
    let mut random = [0; 16];
    // A duplicate id is better than no response.
    let _ = getrandom::fill(&mut random);
    HeaderValue::try_from(hex::encode(random)).expect("hex digits are visible ASCII")
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
    let shown = path.split('/').map(|segment| match segment.len() {
        0..=MAX_SEGMENT => segment,
        _ => "***",
    });
    shown.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::Service;

    use super::super::logs::tests::Log;
    use super::*;

    fn id_for(given: &[&[u8]]) -> String {
        let mut request = Request::new(Body::empty());
        for id in given {
            let id = HeaderValue::from_bytes(id).unwrap();
            request.headers_mut().append(REQUEST_ID, id);
        }
        request_id(request.headers()).to_str().unwrap().to_owned()
    }

    #[test]
    fn accepts_a_valid_request_id() {
        let longest = [b'x'; MAX_REQUEST_ID];
        for id in [&b"a"[..], b"0af7651916cd43dd8448eb211c80319c", &longest] {
            assert_eq!(id_for(&[id]).as_bytes(), id);
        }
    }

    #[test]
    fn replaces_invalid_request_ids() {
        let too_long = [b'x'; MAX_REQUEST_ID + 1];
        let two: &[&[u8]] = &[b"a", b"b"];
        let bad: [&[&[u8]]; 7] = [
            &[],
            two,
            &[b""],
            &[&too_long],
            &[b"a b"],
            &[b"caf\xc3\xa9"],
            &[b"svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n"],
        ];
        for given in bad {
            let id = id_for(given);
            assert_eq!(id.len(), 32, "{given:?}");
            assert_ne!(id, id_for(given));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_request_times_out_with_408() {
        let app = Router::new().route("/", get(std::future::pending::<()>));
        let request = Request::new(Body::empty());
        let response = with_request_log(app).call(request).await.unwrap();
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
        let response = with_request_log(app).call(request).await.unwrap();
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
        assert_eq!(shown, "/service-tokens/***/rotate");
        let usual = "/api/v1/service-account-tokens/7Hq2mX9bTe";
        assert_eq!(redact_path(usual), usual);
    }
}
