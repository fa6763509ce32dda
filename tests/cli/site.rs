//! A server with the management API, on a socket of this process.

use std::net::SocketAddr;

use axum::Router;
use axum::http::StatusCode;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::store::TokenRegistry;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens, TokenStore};

pub(crate) struct Site {
    url: String,
    pub(crate) runtime: Runtime,
    pub(crate) tokens: ServiceTokens,
}

impl Site {
    pub(crate) fn start() -> Self {
        let store = MemoryStore::new();
        Self::over(store.clone(), store)
    }

    /// Callers are found in `callers`, tokens are managed in `store`.
    pub(crate) fn over(callers: impl TokenStore + Clone, store: impl TokenRegistry) -> Self {
        let tokens = ServiceTokens::new(store);
        let api = ManagementApi::new(tokens.clone(), ServiceTokenLayer::new(callers));
        let mut site = Self::of(api.into_router());
        site.tokens = tokens;
        site
    }

    /// Whatever is asked for is answered with this status.
    pub(crate) fn answering(status: StatusCode) -> Self {
        Self::of(Router::new().fallback(move || async move { status }))
    }

    fn of(app: Router) -> Self {
        let runtime = Runtime::new().unwrap();
        let address: SocketAddr = ([127, 0, 0, 1], 0).into();
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async { axum::serve(listener, app).await });
        Self {
            url,
            runtime,
            tokens: ServiceTokens::new(MemoryStore::new()),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The secret of a new token.
    pub(crate) fn create(&self, scopes: &[&str], roles: &[&str]) -> String {
        let new = NewToken::new("caller")
            .with_scopes(scopes.iter().copied())
            .with_roles(roles.iter().copied());
        let issued = self.runtime.block_on(self.tokens.create(new)).unwrap();
        issued.expose_secret().to_owned()
    }
}
