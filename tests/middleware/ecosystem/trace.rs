use std::convert::Infallible;

use axum::body::{Body, Bytes, HttpBody};
use http::header::AUTHORIZATION;
use http::{Request, Response};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_http::classify::{ServerErrorsAsFailures, SharedClassifier};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::trace::{DefaultMakeSpan, TraceLayer};
use tower_service_token::header::X_API_KEY;
use tower_service_token::{MemoryStore, ServiceTokenLayer};

use crate::ecosystem::{Log, UncachedStore, mint, store_with_token};

async fn handler(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::from("handled")))
}

/// Converts the response body of `TraceLayer`. The layer builds rejections from text, which
/// requires a body type that implements `From<String>`.
fn box_body<B>(response: Response<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes, Error = axum::Error> + Send + 'static,
{
    response.map(Body::new)
}

fn with_headers() -> TraceLayer<SharedClassifier<ServerErrorsAsFailures>> {
    TraceLayer::new_for_http().make_span_with(DefaultMakeSpan::new().include_headers(true))
}

fn sensitive_headers() -> SetSensitiveRequestHeadersLayer {
    SetSensitiveRequestHeadersLayer::new([AUTHORIZATION, X_API_KEY])
}

/// The log of a service that receives valid, unknown, repeated and malformed tokens.
struct TracedRequests {
    log: String,
    secrets: [String; 2],
}

impl TracedRequests {
    async fn run<S, B>(protect: impl FnOnce(MemoryStore) -> S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone,
    {
        let log = Log::capture();
        let (store, token) = store_with_token();
        let service = protect(store);
        let (good, unknown) = (token.expose_secret(), mint());
        let unknown = unknown.expose_secret();
        for (path, status, headers) in [
            (
                "/api-key",
                200,
                vec![("authorization", format!("ApiKey {good}"))],
            ),
            ("/header", 200, vec![("x-api-key", good.into())]),
            ("/unknown", 401, vec![("x-api-key", unknown.into())]),
            ("/malformed", 400, vec![("x-api-key", format!("{good} a"))]),
            (
                "/repeated",
                400,
                vec![("x-api-key", good.into()), ("x-api-key", unknown.into())],
            ),
        ] {
            let mut request = Request::get(path);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let request = request.body(Body::empty()).unwrap();
            let response = service.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "{path}");
        }
        Self {
            log: log.text(),
            secrets: [good, unknown].map(str::to_owned),
        }
    }

    fn has_no_secret(&self) -> bool {
        // The last 30 characters of a token are its secret and its checksum.
        let secret = |token: &String| self.log.contains(&token[token.len() - 30..]);
        !self.secrets.iter().any(secret)
    }

    fn has(&self, text: &str) -> bool {
        self.log.contains(text)
    }
}

#[tokio::test]
async fn outer_trace_omits_tokens_if_headers_are_sensitive() {
    let traced = TracedRequests::run(|store| {
        ServiceBuilder::new()
            .layer(sensitive_headers())
            .layer(with_headers())
            .layer(ServiceTokenLayer::new(store))
            .service_fn(handler)
    })
    .await;
    assert!(traced.has_no_secret(), "{}", traced.log);
    for expected in [
        "started processing request",
        "uri=/api-key",
        "uri=/repeated",
        r#""authorization": Sensitive"#,
        r#""x-api-key": Sensitive"#,
    ] {
        assert!(traced.has(expected), "no {expected} in {}", traced.log);
    }
}

/// Shows why the documentation requires sensitive headers outside of the trace layer, and proves
/// that these tests detect a logged token.
#[tokio::test]
async fn outer_trace_logs_tokens_if_headers_are_not_sensitive() {
    let traced = TracedRequests::run(|store| {
        ServiceBuilder::new()
            .layer(with_headers())
            .layer(ServiceTokenLayer::new(store))
            .service_fn(handler)
    })
    .await;
    assert!(!traced.has_no_secret(), "{}", traced.log);
}

#[tokio::test]
async fn inner_trace_omits_tokens() {
    let traced = TracedRequests::run(|store| {
        ServiceBuilder::new()
            .layer(ServiceTokenLayer::new(store))
            .map_response(box_body)
            .layer(with_headers())
            .service_fn(handler)
    })
    .await;
    assert!(traced.has_no_secret(), "{}", traced.log);
    for expected in [
        "uri=/api-key",
        r#""authorization": Sensitive"#,
        r#""x-api-key": Sensitive"#,
    ] {
        assert!(traced.has(expected), "no {expected} in {}", traced.log);
    }
    assert!(!traced.has("uri=/unknown"), "{}", traced.log);
}

#[tokio::test]
async fn inner_trace_omits_tokens_with_an_uncached_store() {
    let traced = TracedRequests::run(|store| {
        ServiceBuilder::new()
            .layer(ServiceTokenLayer::new(UncachedStore(store)))
            .map_response(box_body)
            .layer(with_headers())
            .service_fn(handler)
    })
    .await;
    assert!(traced.has_no_secret(), "{}", traced.log);
    assert!(traced.has(r#""x-api-key": Sensitive"#), "{}", traced.log);
}

#[tokio::test]
async fn inner_trace_sees_no_stripped_header() {
    let traced = TracedRequests::run(|store| {
        ServiceBuilder::new()
            .layer(ServiceTokenLayer::new(store).strip_credential())
            .map_response(box_body)
            .layer(with_headers())
            .service_fn(handler)
    })
    .await;
    assert!(traced.has_no_secret(), "{}", traced.log);
    assert!(traced.has("uri=/header"), "{}", traced.log);
    assert!(
        !traced.has("x-api-key") && !traced.has("authorization"),
        "{}",
        traced.log
    );
}

#[tokio::test]
async fn default_outer_trace_omits_tokens_and_contains_rejections() {
    let traced = TracedRequests::run(|store| {
        ServiceBuilder::new()
            .layer(TraceLayer::new_for_http())
            .layer(ServiceTokenLayer::new(store))
            .service_fn(handler)
    })
    .await;
    assert!(traced.has_no_secret(), "{}", traced.log);
    assert!(traced.has("finished processing request"), "{}", traced.log);
    if cfg!(feature = "tracing") {
        for (path, reason) in [
            ("/unknown", "unknown_token"),
            ("/malformed", "malformed_header"),
            ("/repeated", "repeated_header"),
        ] {
            let is_logged = traced.log.lines().any(|line| {
                line.contains(&format!("uri={path} "))
                    && line.contains(&format!(
                        "tower_service_token: request rejected reason=\"{reason}\""
                    ))
            });
            assert!(is_logged, "no {path} {reason} in {}", traced.log);
        }
    }
}
