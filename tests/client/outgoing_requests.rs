//! Outgoing requests with a token from a value, an environment variable or a rotated file.

use std::convert::Infallible;
use std::fs;
use std::future::{Ready, ready};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use futures::executor::block_on;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::{Layer, Service, ServiceExt};
use tower_service_token::client::{AddServiceTokenLayer, TokenSourceError, TokenSourceErrorKind};
use tower_service_token::origin::Origin;
use tower_service_token::store::TokenRecord;
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer};

pub(crate) const TOKEN: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";
pub(crate) const OTHER: &str = "svctok-0000000000_0000000000000000000000003Y6kBA";
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Responds with the headers of the request. Panics if it is called before it is ready.
#[derive(Clone, Default)]
struct Echo(Arc<AtomicUsize>);

impl Service<Request<()>> for Echo {
    type Response = Response<HeaderMap>;
    type Error = Infallible;
    type Future = Ready<Result<Response<HeaderMap>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.store(1, Ordering::SeqCst);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        assert_eq!(
            self.0.swap(0, Ordering::SeqCst),
            1,
            "called before it was ready"
        );
        ready(Ok(Response::new(request.headers().clone())))
    }
}

/// Returns the headers that the layer sends to `uri`.
pub(crate) fn sent_headers_to(
    layer: &AddServiceTokenLayer,
    uri: &str,
    headers: &[(HeaderName, &str)],
) -> HeaderMap {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let service = layer.layer(Echo::default());
    let response = block_on(service.oneshot(request.body(()).unwrap()));
    response.unwrap().into_body()
}

pub(crate) fn sent_headers(layer: &AddServiceTokenLayer) -> HeaderMap {
    sent_headers_to(layer, "https://api.example/", &[])
}

fn layer(token: &str) -> AddServiceTokenLayer {
    AddServiceTokenLayer::new(token).unwrap()
}

fn kind(result: Result<AddServiceTokenLayer, TokenSourceError>) -> TokenSourceErrorKind {
    result.expect_err("an error").kind()
}

/// A temporary file, removed at the end of the test.
pub(crate) struct TempFile(pub(crate) PathBuf);

impl TempFile {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("svctok-client-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    pub(crate) fn write(&self, text: &str) {
        let new_file = self.0.with_extension("new");
        fs::write(&new_file, text).unwrap();
        fs::rename(new_file, &self.0).unwrap();
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// For clients that are not Tower services.
#[test]
fn header_for_returns_what_the_layer_adds() {
    let only_api = |layer: AddServiceTokenLayer| {
        layer.with_origin(Origin::new("https://api.example").unwrap())
    };
    for layer in [
        layer(TOKEN),
        layer(TOKEN).use_bearer(),
        layer(TOKEN).with_header(X_API_KEY),
        only_api(layer(TOKEN)),
        only_api(layer(TOKEN).with_header(X_API_KEY)),
    ] {
        for uri in [
            "https://api.example/a?b",
            "https://API.example:443/",
            "http://api.example/",
            "https://api.example.evil/",
            "https://evil.example/",
            "/a",
        ] {
            let header = layer.header_for(&uri.parse().unwrap());
            assert!(
                header.iter().all(|(_, value)| value.is_sensitive()),
                "{uri}"
            );
            assert!(!format!("{header:?}").contains(TOKEN), "{header:?}");
            let returned: HeaderMap = header.into_iter().collect();
            assert_eq!(
                returned,
                sent_headers_to(&layer, uri, &[]),
                "{layer:?} {uri}"
            );
        }
    }
    let only_api = only_api(layer(TOKEN));
    assert!(
        only_api
            .header_for(&"https://api.example/".parse().unwrap())
            .is_some()
    );
    assert!(
        only_api
            .header_for(&"https://evil.example/".parse().unwrap())
            .is_none()
    );
}

#[test]
fn sends_sensitive_credentials_in_the_chosen_format() {
    let api_key = sent_headers(&layer(TOKEN));
    assert_eq!(api_key[AUTHORIZATION], format!("ApiKey {TOKEN}"));
    let bearer = sent_headers(&layer(TOKEN).use_bearer());
    assert_eq!(bearer[AUTHORIZATION], format!("Bearer {TOKEN}"));
    let header = sent_headers(&layer(TOKEN).with_header(X_API_KEY));
    assert_eq!(header[X_API_KEY], TOKEN);
    assert!(!header.contains_key(AUTHORIZATION));
    for (headers, name) in [
        (api_key, AUTHORIZATION),
        (bearer, AUTHORIZATION),
        (header, X_API_KEY),
    ] {
        assert!(headers[name].is_sensitive());
    }
}

#[test]
fn replaces_existing_credentials() {
    let existing = [
        (AUTHORIZATION, "ApiKey old"),
        (AUTHORIZATION, "Basic older"),
        (HeaderName::from_static("x-other"), "unchanged"),
    ];
    let headers = sent_headers_to(&layer(TOKEN), "https://api.example/", &existing);
    let values: Vec<_> = headers.get_all(AUTHORIZATION).iter().collect();
    assert_eq!(values, [&format!("ApiKey {TOKEN}")]);
    assert_eq!(headers["x-other"], "unchanged");
}

#[test]
fn sends_the_token_only_to_its_origin() {
    let layer = layer(TOKEN).with_origin(Origin::new("https://api.example").unwrap());
    for allowed in [
        "https://api.example/",
        "https://API.example:443/a",
        "https://api.example",
    ] {
        assert!(
            sent_headers_to(&layer, allowed, &[]).contains_key(AUTHORIZATION),
            "{allowed}"
        );
    }
    for other in [
        "http://api.example/",
        "https://api.example:8443/",
        "https://evil.example/api.example",
        "https://api.example.evil.example/",
        "https://api.example./",
        "https://api.example:65536/",
        "https://api.example:/",
        "https://api.example@evil.example/",
        "https://user@api.example/",
        "/relative",
    ] {
        assert!(sent_headers_to(&layer, other, &[]).is_empty(), "{other}");
    }
    // The layer keeps the caller's own header.
    let headers = sent_headers_to(
        &layer,
        "https://other.example/",
        &[(AUTHORIZATION, "Basic eA==")],
    );
    assert_eq!(headers[AUTHORIZATION], "Basic eA==");
}

#[test]
fn rejects_malformed_tokens_without_repeating_them() {
    let long = "x".repeat(4_097);
    for bad in [
        "",
        "\n",
        "hush hush",
        "hu\u{e9}sh",
        "hush\n\nhush",
        "hush\thush",
        &*long,
    ] {
        let error = AddServiceTokenLayer::new(bad).unwrap_err();
        assert_eq!(error.kind(), TokenSourceErrorKind::InvalidToken, "{bad:?}");
        let text = error.to_string();
        assert!(
            text.starts_with("the value does not contain a token: it "),
            "{text}"
        );
        assert!(!text.contains("hush"), "{text}");
    }
    assert_eq!(
        sent_headers(&layer("hush\r\n"))[AUTHORIZATION],
        "ApiKey hush"
    );
    assert_eq!(
        sent_headers(&layer(&long[1..]))[AUTHORIZATION].len(),
        7 + 4_096
    );
}

#[test]
fn reads_environment_variables() {
    // `PATH` is always set, and its value has the syntax of a token.
    let path = std::env::var("PATH").unwrap();
    let layer = AddServiceTokenLayer::from_env("PATH").unwrap();
    assert_eq!(
        sent_headers(&layer)[AUTHORIZATION],
        format!("ApiKey {path}")
    );
    let error = AddServiceTokenLayer::from_env("SVCTOK_UNSET_VARIABLE").unwrap_err();
    assert_eq!(error.kind(), TokenSourceErrorKind::NotSet);
    assert_eq!(error.to_string(), "SVCTOK_UNSET_VARIABLE is not set");
}

#[test]
fn rejects_missing_and_malformed_files() {
    let file = TempFile::new("none");
    let missing = AddServiceTokenLayer::from_file(&file.0);
    assert_eq!(kind(missing), TokenSourceErrorKind::Unreadable);
    for bad in ["", "\n", "two words", &*"x".repeat(5_000)] {
        file.write(bad);
        let result = AddServiceTokenLayer::from_file(&file.0);
        assert_eq!(kind(result), TokenSourceErrorKind::InvalidToken);
    }
    fs::write(&file.0, b"\xff\xfe").unwrap();
    let result = AddServiceTokenLayer::from_file(&file.0);
    assert_eq!(kind(result), TokenSourceErrorKind::InvalidToken);
}

#[test]
fn reloads_rotated_files() {
    let file = TempFile::new("rotated");
    file.write(&format!("{TOKEN}\n"));
    let layer = AddServiceTokenLayer::from_file(&file.0).unwrap();
    let clone = layer.clone();
    assert_eq!(
        sent_headers(&layer)[AUTHORIZATION],
        format!("ApiKey {TOKEN}")
    );

    file.write(OTHER);
    let expected = format!("ApiKey {OTHER}");
    let deadline = Instant::now() + Duration::from_secs(60);
    while sent_headers(&clone)[AUTHORIZATION] != expected {
        assert!(Instant::now() < deadline, "the new token is not used");
        thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn hyper_clients_authenticate() {
    let store = MemoryStore::new();
    let token = TokenFormat::default().mint().unwrap();
    let record = TokenRecord::from(&token).with_name("ci");
    store.insert(record).unwrap();
    let app = Router::new()
        .route(
            "/",
            get(|caller: Principal| async move { caller.name().to_owned() }),
        )
        .layer(ServiceTokenLayer::new(store));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = || {
        let request = Request::get(format!("http://{address}/"));
        request.body(Empty::<&[u8]>::new()).unwrap()
    };
    let rejected = client.clone().oneshot(request()).await.unwrap();
    assert_eq!(rejected.status(), StatusCode::UNAUTHORIZED);
    let layer = layer(token.expose_secret());
    let layer = layer.with_origin(Origin::new(&format!("http://{address}")).unwrap());
    for layer in [layer.clone(), layer.with_header(X_API_KEY)] {
        let response = layer
            .layer(client.clone())
            .oneshot(request())
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
}
