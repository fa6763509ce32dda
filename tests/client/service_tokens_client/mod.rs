//! `ServiceTokensClient` against the real management API, and against servers that misbehave.
//!
//! 1. [Verbs](verbs): each gives what `ServiceTokens` gives, step by step, errors too.
//! 2. [Lists](lists) and bulk revocations mean the same tokens on both sides.
//! 3. [Lost](lost) answers: a creation makes one token, and its secret works.
//! 4. [Hostile](hostile) servers: what is refused to be read, and what no error shows.
//! 5. [Pauses](pauses): what is sent again, when, and how long a call takes at most.
//! 6. [Settings](settings): which URLs and tokens are taken.
//! 7. [Trust](trust): certificates.

mod faulty_server;
mod untrusted_responses;
mod lists;
mod lost_responses;
mod retries;
mod settings;
#[cfg(feature = "rustls")]
mod tls;
mod operations;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use axum::Router;
use tokio::net::TcpListener;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::client::{ServiceTokensClient, ServiceTokensClientBuilder};
use tower_service_token::clock::{Clock, ManualClock};
use tower_service_token::lifecycle::{IssuedToken, NewToken, Page, TokenPolicy};
use tower_service_token::registry::TokenFilter;
use tower_service_token::store::{Credential, TokenRecord, verdict};
use tower_service_token::token::{PresentedToken, TokenId};
use tower_service_token::wire::TokenInfo;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens, TokenStore};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// The token of clients whose server does not look.
const TOKEN: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";

/// A token as it is shown, with the least that there is.
const TOKEN_JSON: &str =
    r#"{"id":"7Hq2mX9bTe","name":"ci","roles":[],"scopes":[],"state":"active"}"#;

/// Of [`TOKEN_JSON`].
fn id() -> TokenId {
    "7Hq2mX9bTe".parse().unwrap()
}

/// 2027-01-15T08:00:00Z
fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// A store with an administrator's token, and the API over it below `/tokens`.
struct TestServer {
    clock: ManualClock,
    store: MemoryStore,
    /// As the administrator.
    tokens: ServiceTokens,
    admin: IssuedToken,
    app: Router,
}

impl TestServer {
    async fn new() -> Self {
        Self::with_policy(TokenPolicy::new()).await
    }

    async fn with_policy(policy: TokenPolicy) -> Self {
        let (clock, store) = (ManualClock::new(start()), MemoryStore::new());
        let tokens = ServiceTokens::new(store.clone()).with_clock(clock.clone());
        let admin = NewToken::new("admin").with_scopes(["service-tokens:admin"]);
        let admin = tokens.create(admin).await.unwrap();
        let tokens = tokens.with_policy(policy);
        let layer = ServiceTokenLayer::new(store.clone()).with_clock(clock.clone());
        let api = ManagementApi::new(tokens.clone(), layer);
        let credential = credential(admin.expose_secret());
        let holder = verdict(Some(admin.record().clone()), &credential, &clock).unwrap();
        Self {
            clock,
            store,
            tokens: tokens.acting_for(holder),
            admin,
            app: Router::new().nest("/tokens", api.into_router()),
        }
    }

    /// A client of a real server, as the administrator.
    async fn client(&self) -> ServiceTokensClient {
        self.client_as(self.admin.expose_secret()).await
    }

    async fn client_as(&self, token: &str) -> ServiceTokensClient {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = self.app.clone();
        tokio::spawn(async move { axum::serve(listener, app).await });
        self.builder(address).with_token(token).build().unwrap()
    }

    /// For a client of the server at `address`, as the administrator.
    fn builder(&self, address: SocketAddr) -> ServiceTokensClientBuilder {
        ServiceTokensClient::builder(format!("http://{address}/tokens/"))
            .with_token(self.admin.expose_secret())
    }

    /// A token of the store, as it is shown.
    async fn shown(&self, id: TokenId) -> TokenInfo {
        self.as_shown(&self.tokens.get(id).await.unwrap())
    }

    /// What is shown of a record now.
    fn as_shown(&self, record: &TokenRecord) -> TokenInfo {
        TokenInfo::new(record, self.clock.now())
    }

    /// Whether a request with this secret would be let through.
    async fn accepts(&self, secret: &str) -> bool {
        let credential = credential(secret);
        let record = self.store.find(&credential).await.unwrap();
        verdict(record, &credential, &self.clock).is_ok()
    }

    /// The tokens of this name.
    async fn named(&self, name: &str) -> Vec<TokenRecord> {
        let filter = TokenFilter::new().with_name(name);
        let page = self.tokens.list(filter, Page::with_limit(1_000)).await;
        page.unwrap().records
    }
}

fn credential(secret: &str) -> Credential<'_> {
    Credential::new(PresentedToken::new(secret).unwrap())
}
