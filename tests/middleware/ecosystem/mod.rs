//! The layer together with axum, hyper, tonic, tower-http, sessions and JWTs.

#[cfg(feature = "axum")]
mod axum_router;
mod cors;
mod grpc;
mod hyper_server;
#[cfg(feature = "api")]
mod logins;
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

/// Returns a store with one token, which is named `ci` and has the role `builder` and the scope
/// `health:check`.
fn store_with_token() -> (MemoryStore, MintedToken) {
    let (store, token) = (MemoryStore::new(), mint());
    let record = TokenRecord::from(&token)
        .with_name("ci")
        .with_roles(["builder"])
        .with_scopes(["health:check"]);
    store.insert(record).unwrap();
    (store, token)
}

/// A store without a cache, so that every request waits for a lookup.
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

/// The log of the current thread at every level, captured until it is dropped.
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
