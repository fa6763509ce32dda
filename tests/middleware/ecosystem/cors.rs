use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, ORIGIN,
};
use http::{Method, Request, Response};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::cors::CorsLayer;
use tower_service_token::ServiceTokenLayer;
use tower_service_token::header::X_API_KEY;

use crate::ecosystem::store_with_token;

const SITE_ORIGIN: &str = "https://console.example.com";

fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin([SITE_ORIGIN.parse().unwrap()])
        .allow_headers([AUTHORIZATION, X_API_KEY])
}

fn preflight() -> Request<String> {
    Request::builder()
        .method(Method::OPTIONS)
        .header(ORIGIN, SITE_ORIGIN)
        .header(ACCESS_CONTROL_REQUEST_METHOD, "GET")
        .header(ACCESS_CONTROL_REQUEST_HEADERS, "x-api-key")
        .body(String::new())
        .unwrap()
}

/// Returns a handler that counts its calls.
fn handler(
    calls: &Arc<AtomicUsize>,
) -> impl Service<Request<String>, Response = Response<String>, Error = Infallible, Future: Send> + Clone
{
    let calls = Arc::clone(calls);
    service_fn(move |_| {
        calls.fetch_add(1, Ordering::Relaxed);
        async { Ok(Response::new("handled".to_owned())) }
    })
}

#[tokio::test]
async fn outer_cors_responds_to_preflights_without_a_token() {
    let (store, _) = store_with_token();
    let calls = Arc::default();
    let service = ServiceBuilder::new()
        .layer(cors())
        .layer(ServiceTokenLayer::new(store))
        .service(handler(&calls));

    let response = service.oneshot(preflight()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], SITE_ORIGIN);
    let allowed = response.headers()[ACCESS_CONTROL_ALLOW_HEADERS]
        .to_str()
        .unwrap();
    assert_eq!(allowed, "authorization,x-api-key");
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn outer_cors_headers_cover_rejections_and_responses() {
    let (store, token) = store_with_token();
    let calls = Arc::default();
    let service = ServiceBuilder::new()
        .layer(cors())
        .layer(ServiceTokenLayer::new(store))
        .service(handler(&calls));

    for (token, status, called) in [("guessed", 401, 0), (token.expose_secret(), 200, 1)] {
        let request = Request::get("/")
            .header(ORIGIN, SITE_ORIGIN)
            .header(X_API_KEY, token)
            .body(String::new())
            .unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], SITE_ORIGIN);
        assert_eq!(calls.load(Ordering::Relaxed), called);
    }
}

#[tokio::test]
async fn inner_cors_preflights_are_rejected() {
    let (store, _) = store_with_token();
    let calls = Arc::default();
    let service = ServiceBuilder::new()
        .layer(ServiceTokenLayer::new(store))
        .layer(cors())
        .service(handler(&calls));

    let response = service.oneshot(preflight()).await.unwrap();
    assert_eq!(response.status(), 401);
    assert!(!response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}
