//! `ServiceTokensClient` with the real management API, and with faulty servers.
//!
//! 1. [Operations](operations) have the results and errors of `ServiceTokens`.
//! 2. [Lists](lists) and bulk revocations select the same tokens as the store.
//! 3. [Lost responses](lost_responses): a creation creates one token, and its secret is valid.
//! 4. [Untrusted responses](untrusted_responses) are rejected, and errors do not contain them.
//! 5. [Retries](retries), delays and timeouts.
//! 6. [Settings](settings): accepted and rejected URLs and tokens.
//! 7. [TLS](tls): certificates.

mod faulty_server;
mod lists;
mod lost_responses;
mod operations;
mod retries;
mod settings;
#[cfg(feature = "rustls")]
mod tls;
mod untrusted_responses;

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

/// The token of clients whose server does not authenticate.
const TOKEN: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";

/// A token in JSON with the required members only.
const TOKEN_JSON: &str =
    r#"{"id":"7Hq2mX9bTe","name":"ci","roles":[],"scopes":[],"state":"active"}"#;

/// Returns the ID in [`TOKEN_JSON`].
fn id() -> TokenId {
    "7Hq2mX9bTe".parse().unwrap()
}

/// 2027-01-15T08:00:00Z
fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// A store with an administrator token, and its management API below `/tokens`.
struct TestServer {
    clock: ManualClock,
    store: MemoryStore,
    /// The lifecycle of the store, with the administrator as the actor.
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

    /// Returns a client of a real server, authenticated as the administrator.
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

    /// Returns a builder for the server at `address`, authenticated as the administrator.
    fn builder(&self, address: SocketAddr) -> ServiceTokensClientBuilder {
        ServiceTokensClient::builder(format!("http://{address}/tokens/"))
            .with_token(self.admin.expose_secret())
    }

    /// Returns the info of a token in the store.
    fn token_info(&self, id: TokenId) -> TokenInfo {
        self.info_of(&self.store.get(id).expect("a stored token"))
    }

    /// Returns the info of a record.
    fn info_of(&self, record: &TokenRecord) -> TokenInfo {
        TokenInfo::new(record, self.clock.now())
    }

    /// Returns whether this secret is accepted.
    async fn accepts(&self, secret: &str) -> bool {
        let credential = credential(secret);
        let record = self.store.find(&credential).await.unwrap();
        verdict(record, &credential, &self.clock).is_ok()
    }

    /// Returns the tokens with this name.
    async fn find_by_name(&self, name: &str) -> Vec<TokenRecord> {
        let filter = TokenFilter::new().with_name(name);
        let page = self.tokens.list(filter, Page::with_limit(1_000)).await;
        page.unwrap().records
    }
}

fn credential(secret: &str) -> Credential<'_> {
    Credential::new(PresentedToken::new(secret).unwrap())
}
