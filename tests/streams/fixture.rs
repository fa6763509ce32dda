use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use http::{HeaderMap, Request, Response};
use serde_json::Value;
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::clock::ManualClock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{IssuedToken, NewToken};
use tower_service_token::store::{
    Cached, ChangeListener, Credential, StoreError, TokenRecord, verdict,
};
use tower_service_token::streams::{MemoryTicketStore, TicketLayer, Tickets};
use tower_service_token::token::{PresentedToken, TokenId};
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, ServiceTokens, TokenStore};

/// A store, a token in it, tickets, and one clock for all.
pub(crate) struct Fixture {
    pub(crate) store: MemoryStore,
    pub(crate) clock: ManualClock,
    pub(crate) token: IssuedToken,
    pub(crate) tickets: Tickets,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(NewToken::new("dashboard").with_scopes(["jobs:read", "jobs:write"])).await
    }

    pub(crate) async fn with(new: NewToken) -> Self {
        let store = MemoryStore::new();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        let clock = ManualClock::new(now);
        let tokens = ServiceTokens::new(store.clone()).with_clock(clock.clone());
        let token = tokens.create(new).await.unwrap();
        let tickets = Tickets::builder(MemoryTicketStore::new())
            .with_clock(clock.clone())
            .build();
        Self {
            store,
            clock,
            token,
            tickets,
        }
    }

    pub(crate) fn tokens(&self) -> ServiceTokens {
        ServiceTokens::new(self.store.clone()).with_clock(self.clock.clone())
    }

    pub(crate) fn layer(&self) -> ServiceTokenLayer {
        ServiceTokenLayer::new(self.store.clone()).with_clock(self.clock.clone())
    }

    pub(crate) async fn principal(&self) -> Principal {
        principal_of(&self.store, self.token.expose_secret(), &self.clock).await
    }

    pub(crate) async fn ticket(&self) -> String {
        let ticket = self.tickets.issue(&self.principal().await).await.unwrap();
        ticket.expose_secret().to_owned()
    }

    pub(crate) async fn open(&self, request: Request<String>) -> Response<String> {
        open(
            TicketLayer::new(self.layer(), self.tickets.clone()),
            request,
        )
        .await
    }

    /// Opens a stream with the ticket in the query.
    pub(crate) async fn open_with(&self, ticket: &str) -> Response<String> {
        self.open(get(&format!("/events?ticket={ticket}"))).await
    }
}

pub(crate) async fn principal_of(
    store: &impl TokenStore,
    token: &str,
    clock: &ManualClock,
) -> Principal {
    let credential = Credential::new(PresentedToken::new(token).unwrap());
    let found = store.find(&credential).await.unwrap();
    verdict(found, &credential, clock).unwrap()
}

pub(crate) fn get(uri: &str) -> Request<String> {
    Request::get(uri).body(String::new()).unwrap()
}

/// Sends a request to a service that answers with its caller, URI and protocols.
pub(crate) async fn open(layer: TicketLayer, request: Request<String>) -> Response<String> {
    let inner = service_fn(async |request: Request<String>| {
        let caller = request.extensions().get::<Principal>().unwrap();
        let protocols = request.headers().get("sec-websocket-protocol");
        let body = format!("{} {} {protocols:?}", caller.name(), request.uri());
        Ok::<_, Infallible>(Response::new(body))
    });
    let Ok(response) = layer.layer(inner).oneshot(request).await;
    response
}

/// Returns the code of a rejection, after checking its other parts.
pub(crate) fn code(response: &Response<String>) -> String {
    let problem: Value = serde_json::from_str(response.body()).unwrap();
    assert_eq!(problem["status"], response.status().as_u16(), "{problem}");
    let headers: &HeaderMap = response.headers();
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!(headers["cache-control"], "no-store");
    let has_challenge = headers.contains_key("www-authenticate");
    assert_eq!(has_challenge, response.status().as_u16() < 429, "{problem}");
    problem["code"].as_str().unwrap().to_owned()
}

/// A store that reports no changes, and counts lookups by digest.
#[derive(Clone)]
pub(crate) struct WithoutFeed {
    pub(crate) store: MemoryStore,
    pub(crate) lookups: Arc<AtomicUsize>,
}

impl WithoutFeed {
    pub(crate) fn new(store: &MemoryStore) -> Self {
        Self {
            store: store.clone(),
            lookups: Arc::default(),
        }
    }

    pub(crate) fn lookups(&self) -> usize {
        self.lookups.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl TokenStore for WithoutFeed {
    fn find_cached(&self, _: &Credential<'_>) -> Cached {
        Cached::Miss
    }

    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.store.find(credential).await
    }

    async fn find_again(
        &self,
        id: TokenId,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        self.store.find_again(id, digest).await
    }

    fn subscribe(&self, _: &Arc<dyn ChangeListener>) {}
}
