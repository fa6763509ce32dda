use std::collections::HashSet;
use std::thread;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use tower::Service;
use tower_service_token::limits::ClientAddressLayer;

use super::super::layers::with_layers;
use super::super::logs::tests::Log;
use super::*;

fn with_all_layers(app: Router) -> impl Service<Request, Response = Response, Error = Infallible> {
    with_layers(app, ClientAddressLayer::new())
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

#[test]
fn random_ids_are_distinct_hexadecimal_digits_on_all_threads() {
    // Each thread refills its random bytes several times, and the last time not at the end of its ids.
    let draw = || (0..500).map(|_| random_id()).collect::<Vec<_>>();
    let ids = thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(draw));
        threads.map(|thread| thread.join().unwrap()).concat()
    });
    let mut distinct = HashSet::new();
    for id in &ids {
        let digits = id.to_str().unwrap();
        assert_eq!(digits.len(), 32, "{digits}");
        let is_digit = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        assert!(digits.bytes().all(is_digit), "{digits}");
        assert!(distinct.insert(digits), "{digits} is a duplicate");
    }
    assert_eq!(distinct.len(), 2_000);
}

#[tokio::test(start_paused = true)]
async fn slow_request_times_out_with_408() {
    let app = Router::new().route("/", get(std::future::pending::<()>));
    let request = Request::new(Body::empty());
    let response = with_all_layers(app).call(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    assert!(response.headers().contains_key(REQUEST_ID));
}

/// Calls an app once, and returns the response without its body, and the log.
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
    let (head, body) = response.into_parts();
    body.collect().await.unwrap();
    (Response::from_parts(head, Body::empty()), log.text())
}

async fn failures_logged(response: impl Fn() -> Response + Clone + Send + Sync + 'static) -> usize {
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
    for part in ["panicked", "request_log/tests.rs:", "request_id=\"b\""] {
        assert!(errors[0].contains(part), "{log}");
    }
    assert!(!log.contains("hush"), "{log}");
}

#[tokio::test]
async fn streamed_body_logs_within_the_span() {
    let body = || {
        Body::from_stream(stream::once(async {
            tracing::warn!("streaming");
            Ok::<_, Infallible>("part")
        }))
    };
    let app = Router::new().route("/a", get(async move || body()));
    let (_, log) = logged(app).await;
    let line = log.lines().find(|line| line.contains("streaming")).unwrap();
    assert!(line.contains("request_id=\"b\""), "{log}");
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
