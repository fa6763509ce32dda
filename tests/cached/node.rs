//! A service behind the layer, with a cache in front of a store and a manual clock.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use http::{Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::clock::ManualClock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::reject::{Rejection, RejectionReason};
use tower_service_token::store::{Cached, CachedStore, Credential, TokenRecord};
use tower_service_token::token::{MintedToken, PresentedToken, TokenFormat};
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, TokenStore};

use crate::remote_store::RemoteStore;

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) cached: CachedStore<RemoteStore>,
    layer: ServiceTokenLayer,
}

pub(crate) const OK: StatusCode = StatusCode::OK;
pub(crate) const UNAUTHORIZED: StatusCode = StatusCode::UNAUTHORIZED;
pub(crate) const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);

impl Node {
    pub(crate) fn new(remote: &RemoteStore, clock: &ManualClock) -> Self {
        Self::with_cache(CachedStore::new(remote.clone()), clock)
    }

    pub(crate) fn with_cache(cached: CachedStore<RemoteStore>, clock: &ManualClock) -> Self {
        let cached = cached.with_clock(clock.clone());
        let layer = ServiceTokenLayer::new(cached.clone()).with_clock(clock.clone());
        Self { cached, layer }
    }

    pub(crate) async fn send(&self, token: &str) -> Response<String> {
        let request = Request::builder().header("x-api-key", token);
        let request = request.body(String::new()).unwrap();
        let service = self.layer.layer(service_fn(hello));
        service.oneshot(request).await.unwrap()
    }

    pub(crate) async fn status(&self, token: &MintedToken) -> StatusCode {
        self.send(token.expose_secret()).await.status()
    }

    /// Returns the reason if a request with this token is rejected.
    pub(crate) async fn rejection_reason(&self, token: &MintedToken) -> Option<RejectionReason> {
        let response = self.send(token.expose_secret()).await;
        response.extensions().get().map(Rejection::reason)
    }

    /// Sends a request in a separate task.
    pub(crate) fn spawn(&self, token: &MintedToken) -> tokio::task::JoinHandle<StatusCode> {
        let (node, token) = (self.clone(), token.expose_secret().to_owned());
        tokio::spawn(async move { node.send(&token).await.status() })
    }

    /// Looks this token up without calling the store.
    pub(crate) fn find_cached(&self, token: &MintedToken) -> Cached {
        let token = PresentedToken::new(token.expose_secret()).unwrap();
        self.cached.find_cached(&Credential::new(token))
    }
}

async fn hello(request: Request<String>) -> Result<Response<String>, Infallible> {
    let mut response = Response::new(String::new());
    let principal = request.extensions().get::<Principal>().unwrap();
    response.extensions_mut().insert(principal.clone());
    Ok(response)
}

pub(crate) fn mint() -> MintedToken {
    TokenFormat::default().mint().unwrap()
}

pub(crate) fn digest(token: &MintedToken) -> TokenDigest {
    TokenDigest::of(token.expose_secret())
}

/// Creates a token and stores its record.
pub(crate) fn insert_token(tokens: &MemoryStore) -> MintedToken {
    let token = mint();
    tokens.insert(TokenRecord::from(&token)).unwrap();
    token
}

pub(crate) fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

pub(crate) fn clock() -> ManualClock {
    ManualClock::new(start())
}
