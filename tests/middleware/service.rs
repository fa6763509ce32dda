//! The layer as a Tower service: readiness, clones, and stores that wait, fail, panic or hang.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use http::{Request, Response, StatusCode};
use tokio::sync::{Notify, oneshot};
use tower::buffer::BufferLayer;
use tower::limit::{ConcurrencyLimit, ConcurrencyLimitLayer};
use tower::timeout::TimeoutLayer;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_service_token::store::{Cached, Credential, StoreError, TokenRecord};
use tower_service_token::token::{MintedToken, TokenFormat};
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, TokenStore};
use tower_test::mock;

fn insert_token(store: &MemoryStore) -> MintedToken {
    let token = TokenFormat::default().mint().unwrap();
    let record = TokenRecord::from(&token).with_name("ci");
    store.insert(record).unwrap();
    token
}

fn request(token: &str) -> Request<String> {
    let request = Request::builder().header("x-api-key", token);
    request.body(String::new()).unwrap()
}

async fn hello(request: Request<String>) -> Result<Response<String>, Infallible> {
    let principal = request.extensions().get::<Principal>();
    let name = principal.map_or("anonymous", |principal| principal.name());
    Ok(Response::new(name.to_owned()))
}

/// A store without a cache that counts lookups, and optionally blocks each lookup until it is
/// notified.
#[derive(Clone)]
struct CountingStore {
    tokens: MemoryStore,
    calls: Arc<AtomicUsize>,
    release: Option<Arc<Notify>>,
}

impl CountingStore {
    fn new(tokens: &MemoryStore) -> Self {
        Self {
            tokens: tokens.clone(),
            calls: Arc::default(),
            release: None,
        }
    }

    fn blocking(tokens: &MemoryStore) -> (Self, Arc<Notify>) {
        let release = Arc::new(Notify::new());
        let store = Self {
            release: Some(Arc::clone(&release)),
            ..Self::new(tokens)
        };
        (store, release)
    }

    fn lookups(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl TokenStore for CountingStore {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if let Some(release) = &self.release {
            release.notified().await;
        }
        self.tokens.find(credential).await
    }
}

/// An inner service that panics if it is called without a preceding `poll_ready`.
struct StrictService {
    ready: bool,
    clones: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
}

impl StrictService {
    fn new() -> Self {
        Self {
            ready: false,
            clones: Arc::default(),
            calls: Arc::default(),
        }
    }
}

impl Clone for StrictService {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::SeqCst);
        Self {
            ready: false,
            clones: Arc::clone(&self.clones),
            calls: Arc::clone(&self.calls),
        }
    }
}

impl Service<Request<String>> for StrictService {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<String>) -> Self::Future {
        assert!(self.ready, "called without having been polled ready");
        self.ready = false;
        self.calls.fetch_add(1, Ordering::SeqCst);
        ready(Ok(Response::default()))
    }
}

#[tokio::test]
async fn cache_hit_does_not_clone_the_inner_service() {
    let store = MemoryStore::new();
    let token = insert_token(&store);
    let inner = StrictService::new();
    let (clones, calls) = (Arc::clone(&inner.clones), Arc::clone(&inner.calls));
    let mut service = ServiceTokenLayer::new(store).layer(inner);
    for _ in 0..3 {
        let request = request(token.expose_secret());
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    assert_eq!(clones.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn calls_the_service_that_was_polled_ready_after_a_lookup() {
    let tokens = MemoryStore::new();
    let token = insert_token(&tokens);
    let store = CountingStore::new(&tokens);
    let inner = StrictService::new();
    let calls = Arc::clone(&inner.calls);
    let mut service = ServiceTokenLayer::new(store.clone()).layer(inner);
    for _ in 0..3 {
        let request = request(token.expose_secret());
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    assert_eq!(store.lookups(), 3);
}

#[tokio::test]
async fn rejection_does_not_call_the_inner_service() {
    let tokens = MemoryStore::new();
    let inner = StrictService::new();
    let calls = Arc::clone(&inner.calls);
    let mut cached = ServiceTokenLayer::new(tokens.clone()).layer(inner.clone());
    let mut uncached = ServiceTokenLayer::new(CountingStore::new(&tokens)).layer(inner);
    for token in ["unknown", "", "two words"] {
        for service in [&mut cached, &mut uncached] {
            let response = service.ready().await.unwrap().call(request(token));
            assert!(response.await.unwrap().status().is_client_error());
        }
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn readiness_follows_the_inner_service() {
    let store = MemoryStore::new();
    let token = insert_token(&store);
    let (mut service, mut handle) =
        mock::spawn_layer::<Request<String>, Response<String>, _>(ServiceTokenLayer::new(store));
    handle.allow(0);
    assert!(service.poll_ready().is_pending());
    handle.allow(1);
    assert!(service.poll_ready().is_ready());

    let response = service.call(request(token.expose_secret()));
    let respond = async {
        let (request, responder) = handle.next_request().await.unwrap();
        assert_eq!(
            request.extensions().get::<Principal>().unwrap().name(),
            "ci"
        );
        responder.send_response(Response::new("inner".to_owned()));
    };
    let (response, ()) = futures::join!(response, respond);
    assert_eq!(response.unwrap().body(), "inner");
    assert!(service.poll_ready().is_pending(), "the only permit is used");
}

#[tokio::test]
async fn returns_errors_of_the_inner_service_unchanged() {
    #[derive(Debug, PartialEq, thiserror::Error)]
    #[error("inner error {0}")]
    struct Inner(u8);

    let store = MemoryStore::new();
    let token = insert_token(&store);
    let failing = service_fn(async |_: Request<String>| Err::<Response<String>, _>(Inner(7)));
    for layer in [
        ServiceTokenLayer::new(store.clone()),
        ServiceTokenLayer::new(CountingStore::new(&store)),
    ] {
        let error = layer
            .layer(failing)
            .oneshot(request(token.expose_secret()))
            .await;
        assert_eq!(error.unwrap_err(), Inner(7));
    }

    let (mut service, mut handle) =
        mock::spawn_layer::<Request<String>, Response<String>, _>(ServiceTokenLayer::new(store));
    handle.send_error(Inner(9));
    let Poll::Ready(Err(error)) = service.poll_ready() else {
        panic!("poll_ready did not return the inner error");
    };
    assert!(error.to_string().contains("inner error 9"), "{error}");
}

#[tokio::test]
async fn holds_the_inner_concurrency_permit_during_lookups() {
    let tokens = MemoryStore::new();
    let token = insert_token(&tokens);
    let (store, release) = CountingStore::blocking(&tokens);
    let inner = ConcurrencyLimit::new(service_fn(hello), 1);
    let mut service = ServiceTokenLayer::new(store).layer(inner);

    let first = service
        .ready()
        .await
        .unwrap()
        .call(request(token.expose_secret()));
    let mut first = manual_poll(first);
    assert!(first.poll_once().is_pending());
    let second_ready = service.ready().now_or_never();
    assert!(
        second_ready.is_none(),
        "the waiting request holds the only permit"
    );

    release.notify_one();
    assert_eq!(first.finish().await.unwrap().body(), "ci");
    let second = service
        .ready()
        .await
        .unwrap()
        .call(request(token.expose_secret()));
    release.notify_one();
    assert_eq!(second.await.unwrap().body(), "ci");
}

#[tokio::test]
async fn dropped_request_releases_its_permit_without_calling_the_inner_service() {
    let tokens = MemoryStore::new();
    let token = insert_token(&tokens);
    let (store, _gate) = CountingStore::blocking(&tokens);
    let inner = StrictService::new();
    let calls = Arc::clone(&inner.calls);
    let mut service = ServiceTokenLayer::new(store).layer(ConcurrencyLimit::new(inner, 1));

    let call = service
        .ready()
        .await
        .unwrap()
        .call(request(token.expose_secret()));
    let mut call = manual_poll(call);
    assert!(call.poll_once().is_pending());
    drop(call);
    assert!(
        service.ready().now_or_never().is_some(),
        "the permit is released"
    );
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn composes_with_concurrency_limit_and_buffer() {
    let tokens = MemoryStore::new();
    let token = insert_token(&tokens);
    for layer in [
        ServiceTokenLayer::new(tokens.clone()),
        ServiceTokenLayer::new(CountingStore::new(&tokens)),
    ] {
        let service = ServiceBuilder::new()
            .layer(BufferLayer::new(4))
            .layer(ConcurrencyLimitLayer::new(2))
            .layer(layer)
            .layer(BufferLayer::new(4))
            .layer(ConcurrencyLimitLayer::new(1))
            .service_fn(hello);
        let calls = (0..32).map(|number| {
            let token = if number % 2 == 0 {
                token.expose_secret()
            } else {
                "unknown"
            };
            service.clone().oneshot(request(token))
        });
        let responses: Vec<_> = futures::future::try_join_all(calls).await.unwrap();
        for (number, response) in responses.iter().enumerate() {
            let expected = if number % 2 == 0 { 200 } else { 401 };
            assert_eq!(response.status().as_u16(), expected, "request {number}");
        }
    }
}

#[tokio::test]
async fn store_errors_are_503_and_are_not_cached() {
    #[derive(Clone)]
    struct Flaky(CountingStore);

    #[async_trait]
    impl TokenStore for Flaky {
        async fn find(
            &self,
            credential: &Credential<'_>,
        ) -> Result<Option<TokenRecord>, StoreError> {
            let found = self.0.find(credential).await;
            if self.0.lookups() == 1 {
                Err(StoreError::unavailable("connection refused"))
            } else {
                found
            }
        }
    }

    let tokens = MemoryStore::new();
    let token = insert_token(&tokens);
    let service =
        ServiceTokenLayer::new(Flaky(CountingStore::new(&tokens))).layer(service_fn(hello));
    let send = || service.clone().oneshot(request(token.expose_secret()));
    let response = send().await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!response.body().contains("connection refused"));
    assert_eq!(send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn store_panics_unwind_and_leave_the_layer_working() {
    #[derive(Clone)]
    struct Panicking {
        tokens: MemoryStore,
        in_memory: bool,
    }

    #[async_trait]
    impl TokenStore for Panicking {
        fn find_cached(&self, credential: &Credential<'_>) -> Cached {
            match self.tokens.find_cached(credential) {
                Cached::NotFound => {
                    assert!(!self.in_memory, "find_cached panics");
                    Cached::Miss
                }
                found => found,
            }
        }

        async fn find(&self, _: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
            panic!("find panics")
        }
    }

    let tokens = MemoryStore::new();
    let token = insert_token(&tokens);
    for in_memory in [true, false] {
        let inner = StrictService::new();
        let calls = Arc::clone(&inner.calls);
        let store = Panicking {
            tokens: tokens.clone(),
            in_memory,
        };
        let service = ServiceTokenLayer::new(store).layer(inner);
        let caught = std::panic::AssertUnwindSafe(service.clone().oneshot(request("unknown")));
        assert!(caught.catch_unwind().await.is_err());
        assert_eq!(calls.load(Ordering::SeqCst), 0);
        let response = service
            .oneshot(request(token.expose_secret()))
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn outer_timeout_cancels_a_hanging_lookup() {
    struct Hanging(std::sync::Mutex<Option<oneshot::Sender<()>>>);

    #[async_trait]
    impl TokenStore for Hanging {
        async fn find(&self, _: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
            let _dropped_with_the_lookup = self.0.lock().unwrap().take();
            std::future::pending().await
        }
    }

    let (dropped, was_dropped) = oneshot::channel();
    let inner = StrictService::new();
    let calls = Arc::clone(&inner.calls);
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(3)))
        .layer(ServiceTokenLayer::new(Hanging(Some(dropped).into())))
        .service(inner);
    let error: BoxError = service.oneshot(request("token")).await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>());
    assert!(
        was_dropped.await.is_err(),
        "the lookup was not dropped with the request"
    );
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn looks_up_tokens_of_other_formats_but_not_bad_checksums() {
    let tokens = MemoryStore::new();
    let token = insert_token(&tokens);
    let store = CountingStore::new(&tokens);
    let service = ServiceTokenLayer::new(store.clone()).layer(service_fn(hello));
    let mut damaged = token.expose_secret().to_owned();
    let last = damaged.pop().unwrap();
    damaged.push(if last == 'x' { 'y' } else { 'x' });
    for (token, lookups) in [(damaged.as_str(), 0), ("svctok-short", 1), ("foreign", 2)] {
        let response = service.clone().oneshot(request(token)).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(store.lookups(), lookups, "{token}");
    }

    let acme = TokenFormat::new("acme-").unwrap();
    let service = ServiceTokenLayer::new(store.clone())
        .with_token_format(acme)
        .layer(service_fn(hello));
    let response = service.oneshot(request(&damaged)).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        store.lookups(),
        3,
        "the layer does not check the checksum of another format"
    );
}

#[tokio::test]
async fn ignores_a_principal_inserted_by_others() {
    let store = MemoryStore::new();
    let token = insert_token(&store);
    let (caught, principal) = std::sync::mpsc::channel();
    let capture = service_fn(move |request: Request<String>| {
        caught
            .send(request.extensions().get::<Principal>().cloned())
            .unwrap();
        ready(Ok::<_, Infallible>(Response::<String>::default()))
    });
    let layer = ServiceTokenLayer::new(store).optional();
    layer
        .layer(capture)
        .oneshot(request(token.expose_secret()))
        .await
        .unwrap();
    let inserted = principal.recv().unwrap().unwrap();

    let mut forged = Request::new(String::new());
    forged.extensions_mut().insert(inserted);
    let response = layer
        .layer(service_fn(hello))
        .oneshot(forged)
        .await
        .unwrap();
    assert_eq!(response.body(), "anonymous");
}

/// A future that a test polls manually before it awaits the result.
struct ManualPoll<F>(std::pin::Pin<Box<F>>);

fn manual_poll<F: Future>(future: F) -> ManualPoll<F> {
    ManualPoll(Box::pin(future))
}

impl<F: Future> ManualPoll<F> {
    fn poll_once(&mut self) -> Poll<F::Output> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        self.0.as_mut().poll(&mut context)
    }

    async fn finish(self) -> F::Output {
        self.0.await
    }
}
