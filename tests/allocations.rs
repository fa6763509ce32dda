//! Limits on the allocations of a request in a steady state.
//!
//! 1. An accepted request without cache headers allocates only what `Extensions::insert` allocates,
//!    for each credential header, with every feature and a metrics recorder. A handler reads the
//!    displayed id and the data of the record without an allocation.
//! 2. Cache headers allocate only the header map of the response.
//! 3. A cached introspection result allocates nothing more.
//! 4. A rejected request allocates only its response: headers and challenge, body, and the rejection
//!    in its extensions. The number is bounded for any request.

use std::convert::Infallible;
use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, HeaderName};
use http::{Request, Response, StatusCode};
use test_support::counting_allocator::{CountingAllocator, Counts};
use tower::{Layer, Service, service_fn};
use tower_service_token::header::X_API_KEY;
use tower_service_token::principal::Identity;
use tower_service_token::store::TokenRecord;
use tower_service_token::token::{DisplayId, MintedToken, TokenFormat};
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Requests before the counted one. They initialize thread-locals and lazy statics.
const WARM_UP: usize = 8;

/// The allocations of a header map: its table of indices and its entries.
const HEADER_MAP_ALLOCATIONS: u64 = 2;

/// The maximum for `/verify` with a caller whose headers are cached: the router and the response headers.
#[cfg(feature = "api")]
const MAX_VERIFY_ALLOCATIONS: u64 = 12;

#[test]
fn accepted_request_allocates_only_for_the_principal() {
    let token = TokenFormat::default().mint().expect("random bytes");
    let mut service = service(&layer(&token).without_cache_headers());
    let secret = token.expose_secret();
    let authorization = [(AUTHORIZATION, format!("ApiKey {secret}"))];
    let x_api_key = [(X_API_KEY, secret.to_owned())];
    let both = [authorization.clone(), x_api_key.clone()].concat();
    for headers in [&authorization[..], &x_api_key, &both] {
        for is_first in [true, false] {
            let (response, allocations) = call(&mut service, || request(headers, is_first));
            assert_eq!(response.status(), StatusCode::OK);
            let expected = insertion_allocations(request(headers, is_first));
            assert_eq!(
                allocations,
                expected,
                "{} headers, {is_first}",
                headers.len()
            );
        }
    }
}

#[test]
fn token_beside_other_logins_allocates_only_for_the_principal() {
    let format = TokenFormat::default();
    let token = format.mint().expect("random bytes");
    let layer = layer(&token).accept_bearer_of(format);
    let layer = layer.with_identity(|_| Some(Identity::new("alice")));
    let mut service = service(&layer.without_cache_headers());
    let headers = [(AUTHORIZATION, format!("Bearer {}", token.expose_secret()))];
    for is_first in [true, false] {
        let (response, allocations) = call(&mut service, || request(&headers, is_first));
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            allocations,
            insertion_allocations(request(&headers, is_first))
        );
    }
}

#[test]
fn propagated_principal_allocates_only_its_second_insertion() {
    let token = TokenFormat::default().mint().expect("random bytes");
    let layer = layer(&token).without_cache_headers().propagate_principal();
    let mut service = service(&layer);
    let headers = [(X_API_KEY, token.expose_secret().to_owned())];
    let (response, allocations) = call(&mut service, || request(&headers, true));
    assert!(response.extensions().get::<Principal>().is_some());
    assert_eq!(
        allocations,
        2 * insertion_allocations(request(&headers, true))
    );
}

#[test]
fn handler_reads_data_and_the_displayed_id_without_allocating() {
    #[derive(Debug, PartialEq)]
    struct Tenant(u64);

    let token = TokenFormat::default().mint().expect("random bytes");
    let store = MemoryStore::new();
    let id = DisplayId::new("0193b3a4-9c1e-7b52-8f0d-2f8f6a1c9e77").expect("a UUID");
    let record = TokenRecord::from(&token).with_display_id(id.clone());
    store
        .insert(record.with_data(Tenant(7)))
        .expect("an empty store");
    let layer = ServiceTokenLayer::new(store).without_cache_headers();
    let mut service = layer.layer(service_fn(move |request: Request<()>| {
        let principal = request
            .extensions()
            .get::<Principal>()
            .expect("a principal");
        assert_eq!(principal.data(), Some(&Tenant(7)));
        assert_eq!(principal.display_id(), id);
        ready(Ok::<_, Infallible>(Response::new(String::new())))
    }));
    let headers = [(X_API_KEY, token.expose_secret().to_owned())];
    let (response, allocations) = call(&mut service, || request(&headers, true));
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(allocations, insertion_allocations(request(&headers, true)));
}

#[cfg(feature = "introspection")]
#[test]
fn cached_introspection_allocates_only_for_the_principal() {
    let token = TokenFormat::default().mint().expect("random bytes");
    let headers = [(X_API_KEY, token.expose_secret().to_owned())];
    for exp in ["", ",\"exp\":4000000000"] {
        record_metrics();
        let layer =
            ServiceTokenLayer::new(store_with_cached_token(&token, exp)).without_cache_headers();
        let mut service = service(&layer);
        for is_first in [true, false] {
            let (response, allocations) = call(&mut service, || request(&headers, is_first));
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(
                allocations,
                insertion_allocations(request(&headers, is_first))
            );
        }
    }
}

/// Returns a store that has cached this token, from a response with the additional members `more`.
#[cfg(feature = "introspection")]
fn store_with_cached_token(
    token: &MintedToken,
    more: &str,
) -> tower_service_token::introspection::IntrospectionStore {
    use bytes::Bytes;
    use http::header::CONTENT_TYPE;
    use http_body_util::Full;
    use tower_service_token::TokenStore;
    use tower_service_token::introspection::{ClientAuth, IntrospectionStore};
    use tower_service_token::store::Credential;
    use tower_service_token::token::PresentedToken;

    let body = format!("{{\"active\":true,\"sub\":\"ci\",\"scope\":\"a:b\"{more}}}");
    let server = service_fn(move |_: Request<Full<Bytes>>| {
        let response = Response::builder().header(CONTENT_TYPE, "application/json");
        ready(response.body(Full::new(Bytes::from(body.clone()))))
    });
    let store = IntrospectionStore::builder(ClientAuth::basic("service", "secret"))
        .with_transport(server)
        .with_ttl(Duration::from_secs(3600))
        .build("https://auth.example/introspect")
        .expect("a valid endpoint");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let presented = PresentedToken::new(token.expose_secret()).expect("visible ASCII");
    let found = runtime
        .expect("a runtime")
        .block_on(store.find(&Credential::new(presented)));
    assert!(found.expect("a response").is_some());
    store
}

#[test]
fn cache_headers_allocate_only_the_header_map() {
    let token = TokenFormat::default().mint().expect("random bytes");
    let headers = [(X_API_KEY, token.expose_secret().to_owned())];
    let mut service = service(&layer(&token));
    let (response, allocations) = call(&mut service, || request(&headers, true));
    assert_eq!(response.headers().len(), 2);
    println!("with cache headers: {allocations}");
    assert!(allocations <= insertion_allocations(request(&headers, true)) + HEADER_MAP_ALLOCATIONS);
}

#[test]
fn rejected_request_allocates_only_its_response() {
    let format = TokenFormat::default();
    let token = format.mint().expect("random bytes");
    let unknown = format.mint().expect("random bytes");
    let mut service = service(&layer(&token));
    let malformed = Some("ApiKey two words".to_owned());
    let unknown = Some(format!("ApiKey {}", unknown.expose_secret()));
    for (name, value, bound) in [
        ("missing", None, 6),
        ("malformed", malformed, 6),
        ("unknown", unknown, 6),
    ] {
        let value = value.map(|value| (AUTHORIZATION, value));
        let headers: Vec<_> = value.into_iter().collect();
        let (response, allocations) = call(&mut service, || request(&headers, true));
        assert!(response.status().is_client_error(), "{name}");
        println!("{name}: {allocations}");
        assert!(allocations <= bound, "{name}: {allocations}");
    }
}

/// Nothing is formatted or inserted for an accepted request. The router boxes its future once.
#[cfg(feature = "api")]
#[test]
fn accepted_verify_request_does_not_format_log_fields() {
    use axum::Router;
    use axum::body::Body;
    use tower_service_token::api::forward_auth::ForwardAuth;

    let token = TokenFormat::default().mint().expect("random bytes");
    let mut router: Router = ForwardAuth::new(layer(&token)).into_router();
    let (response, allocations) = call(&mut router, || {
        let request = Request::get("/verify").header(X_API_KEY, token.expose_secret());
        request.body(Body::empty()).expect("a request")
    });
    assert_eq!(response.status(), StatusCode::OK);
    println!("/verify: {allocations}");
    assert!(allocations <= MAX_VERIFY_ALLOCATIONS, "{allocations}");
}

fn layer(token: &MintedToken) -> ServiceTokenLayer {
    let store = MemoryStore::new();
    let record = TokenRecord::from(token)
        .with_name("ci-deploy-0012345")
        .with_roles(["deployer", "k8s-troubleshooter"])
        .with_expires_at(SystemTime::now() + Duration::from_secs(3600));
    store.insert(record).expect("an empty store");
    record_metrics();
    ServiceTokenLayer::new(store)
}

/// Installs a recorder, so that the requests are counted as in production.
fn record_metrics() {
    #[cfg(feature = "metrics")]
    {
        use std::sync::Once;

        use metrics_exporter_prometheus::PrometheusBuilder;

        static RECORDER: Once = Once::new();
        RECORDER.call_once(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            metrics::set_global_recorder(recorder).expect("the first recorder");
        });
    }
}

fn service(
    layer: &ServiceTokenLayer,
) -> impl Service<Request<()>, Response = Response<String>, Error = Infallible> + use<> {
    layer.layer(service_fn(|request: Request<()>| {
        drop(request);
        ready(Ok::<_, Infallible>(Response::new(String::new())))
    }))
}

/// Returns a request with these headers. If `is_first` is false, the extensions already contain a
/// value.
fn request(headers: &[(HeaderName, String)], is_first: bool) -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in headers {
        let value = value.parse().expect("visible ASCII");
        request.headers_mut().insert(name, value);
    }
    if !is_first {
        request.extensions_mut().insert("something");
    }
    request
}

/// Calls the service. Returns its response and the number of allocations.
fn call<S, Req>(service: &mut S, request: impl Fn() -> Req) -> (S::Response, u64)
where
    S: Service<Req, Error = Infallible>,
{
    let mut context = Context::from_waker(Waker::noop());
    let mut call_once = || {
        let request = request();
        let before = Counts::of_this_thread().allocations;
        let Poll::Ready(Ok(response)) = pin!(service.call(request)).poll(&mut context) else {
            panic!("a memory store responds without waiting");
        };
        (response, Counts::of_this_thread().allocations - before)
    };
    for _ in 0..WARM_UP {
        call_once();
    }
    call_once()
}

/// Returns the number of allocations for inserting one value of the size of a principal.
fn insertion_allocations(mut request: Request<()>) -> u64 {
    let identity: Arc<dyn Send + Sync> = Arc::new(0_u64);
    let before = Counts::of_this_thread().allocations;
    request.extensions_mut().insert(identity);
    Counts::of_this_thread().allocations - before
}
