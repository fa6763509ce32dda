//! A management API server in the test process.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use test_support::certificates::Certificate;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::clock::Clock;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::registry::TokenRegistry;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens, TokenStore};

pub(crate) struct TestServer {
    url: String,
    pub(crate) runtime: Runtime,
    pub(crate) tokens: ServiceTokens,
    handshakes: Arc<AtomicU32>,
}

impl TestServer {
    pub(crate) fn start() -> Self {
        let store = MemoryStore::new();
        Self::with_stores(store.clone(), store)
    }

    /// Starts a server that uses TLS with this certificate.
    pub(crate) fn start_with(certificate: &Certificate) -> Self {
        let store = MemoryStore::new();
        let tls = acceptor(certificate);
        Self::with_api(store.clone(), store, Some(tls))
    }

    /// Starts a server that authenticates callers with `callers` and manages the tokens in `store`.
    pub(crate) fn with_stores(callers: impl TokenStore + Clone, store: impl TokenRegistry) -> Self {
        Self::with_api(callers, store, None)
    }

    fn with_api(
        callers: impl TokenStore + Clone,
        store: impl TokenRegistry,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        Self::with_tokens(ServiceTokens::new(store), callers, tls)
    }

    /// Starts a server on which each call exceeds the time limit of a bulk revocation.
    pub(crate) fn slow() -> Self {
        let store = MemoryStore::new();
        let tokens = ServiceTokens::new(store.clone()).with_clock(SkippingClock::default());
        Self::with_tokens(tokens, store, None)
    }

    fn with_tokens(
        tokens: ServiceTokens,
        callers: impl TokenStore + Clone,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let api = ManagementApi::new(tokens.clone(), ServiceTokenLayer::new(callers));
        let mut test_server = Self::serve(api.into_router(), tls);
        test_server.tokens = tokens;
        test_server
    }

    /// Starts a server that responds to every request with this status.
    pub(crate) fn with_status(status: StatusCode) -> Self {
        let app = Router::new().fallback(move || async move { status });
        Self::serve(app, None)
    }

    /// Starts a server that responds to each request with the next of these statuses and JSON bodies.
    pub(crate) fn with_responses(responses: impl IntoIterator<Item = (u16, Value)>) -> Self {
        let responses = Mutex::new(responses.into_iter().collect::<VecDeque<_>>());
        let responses = Arc::new(responses);
        let app = Router::new().fallback(move || {
            let next = responses.lock().unwrap().pop_front();
            let (status, body) = next.expect("a response for each request");
            async move {
                let status = StatusCode::from_u16(status).unwrap();
                let content_type = if status.is_success() {
                    "application/json"
                } else {
                    "application/problem+json"
                };
                (
                    status,
                    [(header::CONTENT_TYPE, content_type)],
                    body.to_string(),
                )
            }
        });
        Self::serve(app, None)
    }

    fn serve(app: Router, tls: Option<TlsAcceptor>) -> Self {
        let runtime = Runtime::new().unwrap();
        let address: SocketAddr = ([127, 0, 0, 1], 0).into();
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let handshakes = Arc::new(AtomicU32::new(0));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        match tls {
            None => drop(runtime.spawn(async { axum::serve(listener, app).await })),
            Some(acceptor) => {
                let handshakes = Arc::clone(&handshakes);
                let listener = TlsListener {
                    listener,
                    acceptor,
                    handshakes,
                };
                drop(runtime.spawn(async { axum::serve(listener, app).await }));
            }
        }
        Self {
            url,
            runtime,
            tokens: ServiceTokens::new(MemoryStore::new()),
            handshakes,
        }
    }

    /// Returns the number of TLS handshakes that clients started.
    pub(crate) fn handshakes(&self) -> u32 {
        self.handshakes.load(Ordering::Relaxed)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Creates a token and returns its secret.
    pub(crate) fn create(&self, scopes: &[&str], roles: &[&str]) -> String {
        let new = NewToken::new("caller")
            .with_scopes(scopes.iter().copied())
            .with_roles(roles.iter().copied());
        let issued = self.runtime.block_on(self.tokens.create(new)).unwrap();
        issued.expose_secret().to_owned()
    }
}

/// A clock that advances by 16 s with each read.
#[derive(Default)]
struct SkippingClock(AtomicU32);

impl Clock for SkippingClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(16) * self.0.fetch_add(1, Ordering::Relaxed)
    }
}

struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handshakes: Arc<AtomicU32>,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            self.handshakes.fetch_add(1, Ordering::Relaxed);
            // A client that does not trust the certificate closes the connection.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn acceptor(certificate: &Certificate) -> TlsAcceptor {
    let chain = CertificateDer::from_pem_slice(certificate.chain.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key);
    TlsAcceptor::from(Arc::new(config.unwrap()))
}
