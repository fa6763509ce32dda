//! The layer in the company it is meant for: axum, hyper, tonic and tower-http.

#[cfg(feature = "axum")]
mod axum_router;
mod cors;
mod grpc;
mod hyper_server;
mod trace;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tests::global_subscriber::install_global_subscriber;
use tower_service_token::MemoryStore;
use tower_service_token::store::{Credential, StoreError, TokenRecord, TokenStore};
use tower_service_token::token::{MintedToken, TokenFormat};
use tracing::Level;

fn mint() -> MintedToken {
    install_global_subscriber();
    TokenFormat::default().mint().unwrap()
}

/// A store with one token, named `ci`, with role `builder` and scope `health:check`.
fn store_with_token() -> (MemoryStore, MintedToken) {
    let (store, token) = (MemoryStore::new(), mint());
    let record = TokenRecord::from(&token)
        .with_name("ci")
        .with_roles(["builder"])
        .with_scopes(["health:check"]);
    store.insert(record).unwrap();
    (store, token)
}

/// Cannot answer from memory, so that each request must wait for it.
struct UncachedStore(MemoryStore);

#[async_trait]
impl TokenStore for UncachedStore {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        tokio::task::yield_now().await;
        self.0.find(credential).await
    }
}

struct UnavailableStore;

#[async_trait]
impl TokenStore for UnavailableStore {
    async fn find(&self, _: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        Err(StoreError::unavailable("connection refused by 10.0.0.7"))
    }
}

#[derive(Clone, Default)]
struct LogBuffer(Arc<Mutex<Vec<u8>>>);

impl Write for LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What this thread logs, at every level, while this lives.
struct Log {
    lines: LogBuffer,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Log {
    fn capture() -> Self {
        install_global_subscriber();
        let lines = LogBuffer::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Self {
            lines,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap()
    }
}
