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

/// Refusals need a body that can be made from text; tower-http's own cannot.
fn body_of_trace<B>(response: Response<B>) -> Response<Body>
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

/// What is logged while a service is asked with tokens good, unknown, repeated and malformed.
struct Traced {
    log: String,
    secrets: [String; 2],
}

impl Traced {
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
        // A token's last 30 digits are secret and checksum.
        let secret = |token: &String| self.log.contains(&token[token.len() - 30..]);
        !self.secrets.iter().any(secret)
    }

    fn has(&self, text: &str) -> bool {
        self.log.contains(text)
    }
}

#[tokio::test]
async fn outer_trace_omits_tokens_if_headers_are_sensitive() {
    let traced = Traced::run(|store| {
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
        assert!(traced.has(expected), "{expected} is not in {}", traced.log);
    }
}

/// The reason for the order that the documentation asks for, and the proof that these tests see
/// what is printed.
#[tokio::test]
async fn outer_trace_logs_tokens_if_headers_are_not_sensitive() {
    let traced = Traced::run(|store| {
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
    let traced = Traced::run(|store| {
        ServiceBuilder::new()
            .layer(ServiceTokenLayer::new(store))
            .map_response(body_of_trace)
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
        assert!(traced.has(expected), "{expected} is not in {}", traced.log);
    }
    assert!(!traced.has("uri=/unknown"), "{}", traced.log);
}

#[tokio::test]
async fn inner_trace_omits_tokens_with_an_uncached_store() {
    let traced = Traced::run(|store| {
        ServiceBuilder::new()
            .layer(ServiceTokenLayer::new(UncachedStore(store)))
            .map_response(body_of_trace)
            .layer(with_headers())
            .service_fn(handler)
    })
    .await;
    assert!(traced.has_no_secret(), "{}", traced.log);
    assert!(traced.has(r#""x-api-key": Sensitive"#), "{}", traced.log);
}

#[tokio::test]
async fn inner_trace_sees_no_stripped_header() {
    let traced = Traced::run(|store| {
        ServiceBuilder::new()
            .layer(ServiceTokenLayer::new(store).strip_credential())
            .map_response(body_of_trace)
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
    let traced = Traced::run(|store| {
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
            let said = traced.log.lines().any(|line| {
                line.contains(&format!("uri={path} "))
                    && line.contains(&format!(
                        "tower_service_token: request rejected reason=\"{reason}\""
                    ))
            });
            assert!(said, "{path} {reason} is not in {}", traced.log);
        }
    }
}
