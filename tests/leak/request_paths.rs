//! Sends a request through every path and searches all output for the secret.

use std::convert::Infallible;

use futures::executor::block_on;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Request, Response};
use tests::capture::captured;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_service_token::Principal;
use tower_service_token::authorize::RequireScopesLayer;
use tower_service_token::reject::{
    GrpcStatus, ProblemJson, Rejection, RejectionReason, ResponseForRejection,
};

use super::paths::{ExpectedOutcome, RequestPath, all_paths};
use super::public_types::error_text;
use super::{SECRET, assert_no_secret, leaks};

/// Logs the request as a careless handler does.
async fn handler(request: Request<String>) -> Result<Response<String>, Infallible> {
    tracing::info!(?request, headers = ?request.headers(), "the handler was reached");
    let principal = request.extensions().get::<Principal>();
    tracing::debug!("pretty: {request:#?} {principal:#?}");
    Ok(Response::new("done".to_owned()))
}

async fn call<S>(service: S, request: Request<String>) -> Response<String>
where
    S: Service<Request<String>, Response = Response<String>, Error = Infallible>,
{
    let Ok(response) = service.oneshot(request).await;
    response
}

fn run_path(path: &RequestPath, grpc: bool) -> Response<String> {
    let mut request = Request::new(String::new());
    for (name, value) in &path.headers {
        let value = HeaderValue::try_from(value.as_bytes()).expect("a header value");
        let name = HeaderName::from_static(name);
        request.headers_mut().append(name, value);
    }
    if grpc {
        let grpc = HeaderValue::from_static("application/grpc");
        request.headers_mut().insert(CONTENT_TYPE, grpc);
    }
    let span = tracing::info_span!("request");
    let _entered = span.enter();
    if grpc {
        block_on(respond(path, request, GrpcStatus))
    } else {
        block_on(respond(path, request, ProblemJson))
    }
}

async fn respond(
    path: &RequestPath,
    request: Request<String>,
    builder: impl ResponseForRejection<String>,
) -> Response<String> {
    let handler = service_fn(handler);
    let guard = RequireScopesLayer::all_of(["projects:write"]);
    let guard = guard.with_rejection_response(builder.clone());
    let layer = path.layer.clone();
    let layer = layer.map(|layer| layer.with_rejection_response(builder));
    match (layer, path.guarded) {
        (Some(layer), false) => call(layer.layer(handler), request).await,
        (Some(layer), true) => call(layer.layer(guard.layer(handler)), request).await,
        (None, _) => call(guard.layer(handler), request).await,
    }
}

fn assert_observed(path: &RequestPath, response: &Response<String>, log: &str, metrics: &str) {
    let name = path.name;
    let reached = log.contains("the handler was reached");
    let rejection = response.extensions().get::<Rejection>();
    let (outcome, guard) = match path.expected {
        ExpectedOutcome::Accepted => (Some("accepted"), None),
        ExpectedOutcome::Anonymous => (Some("anonymous"), None),
        ExpectedOutcome::Rejected(reason) => (Some(reason.as_str()), None),
        ExpectedOutcome::RejectedByGuard(reason) => (None, Some(reason.as_str())),
    };
    match path.expected {
        ExpectedOutcome::Accepted | ExpectedOutcome::Anonymous => {
            assert!(reached && rejection.is_none(), "{name}: {log}");
            assert!(log.contains("pretty: Request {"), "{name}: {log}");
            assert_eq!(
                log.contains("Principal {"),
                path.expected == ExpectedOutcome::Accepted
            );
        }
        ExpectedOutcome::Rejected(reason) | ExpectedOutcome::RejectedByGuard(reason) => {
            assert!(!reached, "{name}: {log}");
            assert_eq!(rejection.map(Rejection::reason), Some(reason), "{name}");
            let event = format!("reason=\"{}\"", reason.as_str());
            assert_eq!(
                log.contains(&event),
                cfg!(feature = "tracing"),
                "{name}: {log}"
            );
        }
    }
    let expected_metrics = [
        outcome.map(|outcome| format!("service_token_requests_total{{outcome={outcome}}}")),
        guard.map(|reason| format!("service_token_guard_rejections_total{{reason={reason}}}")),
    ];
    for key in expected_metrics.into_iter().flatten() {
        assert_eq!(
            metrics.contains(&key),
            cfg!(feature = "metrics"),
            "{name}: {key} in {metrics}"
        );
    }
}

#[test]
fn no_request_path_logs_the_secret() {
    for grpc in [false, true] {
        // A layer keeps the counters of its first recorder.
        for path in &all_paths() {
            let (response, log, metrics) = captured(|| run_path(path, grpc));
            assert_observed(path, &response, &log, &metrics);
            assert_no_secret(path.name, &log);
            assert_no_secret(path.name, &metrics);
            assert_no_secret(path.name, response.body());
            assert_no_secret(path.name, &format!("{response:?}{response:#?}"));
            for (name, value) in response.headers() {
                let value = String::from_utf8_lossy(value.as_bytes());
                assert_no_secret(path.name, &format!("{name}: {value}"));
            }
            if let Some(rejection) = response.extensions().get::<Rejection>() {
                for text in error_text("Rejection", rejection).1 {
                    assert_no_secret(path.name, &text);
                }
            }
        }
    }
}

#[test]
fn paths_cover_every_rejection_reason() {
    let source = include_str!("../../src/reject/reason.rs");
    let pattern = regex::Regex::new(r#"Self::(\w+) => "(\w+)","#).expect("a regex");
    let as_str = source.split("pub fn code").next().expect("the first part");
    // Only the API routers use these reasons; `tests/api/endpoints/secrets.rs` and
    // `tests/lifecycle/responses.rs` cover them.
    let reasons_of_routers = [
        RejectionReason::ChangeFailed.as_str(),
        RejectionReason::ActorCheckUnavailable.as_str(),
        RejectionReason::OwnerPoliciesUnavailable.as_str(),
        RejectionReason::NoRandomBytes.as_str(),
    ];
    // Only `streams` uses these reasons; `tests/streams` covers them.
    let reasons_of_streams = [
        RejectionReason::InvalidTicket.as_str(),
        RejectionReason::MalformedTicket.as_str(),
        RejectionReason::TooManyTickets.as_str(),
        RejectionReason::TooManyStreams.as_str(),
    ];
    let covered: Vec<_> = all_paths()
        .iter()
        .filter_map(|path| match path.expected {
            ExpectedOutcome::Rejected(reason) | ExpectedOutcome::RejectedByGuard(reason) => {
                Some(reason.as_str())
            }
            ExpectedOutcome::Accepted | ExpectedOutcome::Anonymous => None,
        })
        .chain(reasons_of_routers)
        .chain(reasons_of_streams)
        .collect();
    let mut reasons = 0;
    for found in pattern.captures_iter(as_str) {
        reasons += 1;
        assert!(covered.contains(&&found[2]), "no path covers {}", &found[1]);
    }
    assert_eq!(reasons, 27, "the pattern no longer matches reason.rs");
}

/// Proves that the capture detects a secret in the log and in the metrics.
#[test]
fn detects_a_handler_that_logs_the_secret() {
    let ((), log, metrics) = captured(|| {
        tracing::trace!(token = SECRET, "planted");
        #[cfg(feature = "metrics")]
        metrics::counter!("planted", "token" => SECRET).increment(1);
    });
    assert!(log.contains("planted"), "{log}");
    assert!(!leaks(&log).is_empty(), "{log}");
    assert_eq!(!leaks(&metrics).is_empty(), cfg!(feature = "metrics"));
}

/// Without the layer, no header is marked as sensitive, so the handler logs the secret.
#[test]
fn handler_without_the_layer_leaks_the_secret() {
    let (_, log, _) = captured(|| {
        let mut request = Request::new(String::new());
        let value = HeaderValue::from_static(SECRET);
        request.headers_mut().insert("x-api-key", value);
        block_on(handler(request))
    });
    assert!(!leaks(&log).is_empty(), "{log}");
}
