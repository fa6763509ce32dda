//! A service under test with any store, and its callers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tower_service_token::api::forward_auth::ForwardAuth;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::api::oauth::OAuthEndpoints;
use tower_service_token::api::pipeops::PipeOpsApi;
use tower_service_token::api::stackstate::StackStateApi;
use tower_service_token::clock::ManualClock;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

use crate::http1::{HttpRequest, HttpResponse};
use crate::node::{Node, poll_interval};
use crate::store_fixture::StoreFixture;

/// 2027-01-15T08:00:00Z
const START: Duration = Duration::from_secs(1_800_000_000);

/// A service and the token of its first administrator.
pub(crate) struct TestService {
    pub(crate) address: SocketAddr,
    pub(crate) admin: Token,
    backend: Backend,
}

enum Backend {
    Process(Box<Node>, StoreFixture),
    InProcess(Box<InProcessService>),
}

/// A service in this process.
struct InProcessService {
    tokens: ServiceTokens,
    clock: ManualClock,
    task: JoinHandle<()>,
}

impl Drop for InProcessService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A token and its secret.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Token {
    /// Reads the token from the response to a creation or a rotation.
    pub(crate) fn from_response(response: &HttpResponse) -> Self {
        Self {
            id: response.text("/service_token/id"),
            secret: response.text("/token"),
        }
    }
}

impl TestService {
    /// Starts `svctok serve` with this store.
    pub(crate) async fn node(fixture: StoreFixture) -> Arc<Self> {
        let (node, secret) = Node::bootstrap(&fixture, &[]).await;
        let get_self = HttpRequest::get("/service-tokens/self").with_key(&secret);
        let id = get_self.send(node.address).await.assert(200).text("/id");
        Arc::new(Self {
            address: node.address,
            admin: Token { id, secret },
            backend: Backend::Process(Box::new(node), fixture),
        })
    }

    /// Starts a service in this process with a `MemoryStore`.
    pub(crate) async fn memory() -> Arc<Self> {
        let store = MemoryStore::new();
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + START);
        let tokens = ServiceTokens::new(store.clone()).with_clock(clock.clone());
        let layer = ServiceTokenLayer::new(store).with_clock(clock.clone());
        Self::serve_in_process(tokens, layer, clock).await
    }

    /// Serves the routes of `svctok serve` in this process.
    pub(crate) async fn serve_in_process(
        tokens: ServiceTokens,
        layer: ServiceTokenLayer,
        clock: ManualClock,
    ) -> Arc<Self> {
        let scopes = ["service-tokens:admin", "introspect"];
        let admin = NewToken::new("administrator").with_scopes(scopes);
        let admin = tokens.create(admin).await.unwrap();
        let layer = layer.accept_bearer();
        let stackstate = StackStateApi::new(tokens.clone(), layer.clone());
        let app = Router::new()
            .merge(ManagementApi::new(tokens.clone(), layer.clone()).into_router())
            .merge(OAuthEndpoints::new(tokens.clone(), layer.clone()).into_router())
            .merge(ForwardAuth::new(layer.clone()).into_router())
            .nest("/api", stackstate.into_router())
            .merge(PipeOpsApi::new(tokens.clone(), layer).into_router());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
        Arc::new(Self {
            address,
            admin: Token {
                id: admin.record().id().to_string(),
                secret: admin.expose_secret().to_owned(),
            },
            backend: Backend::InProcess(Box::new(InProcessService {
                tokens,
                clock,
                task,
            })),
        })
    }

    pub(crate) async fn remove(self: Arc<Self>) {
        let Some(service) = Arc::into_inner(self) else {
            return;
        };
        if let Backend::Process(node, fixture) = service.backend {
            drop(node);
            fixture.remove().await;
        }
    }

    /// Starts a second node on the same store. Returns its address and the node, which is killed on drop. A
    /// service in this process has only one node.
    pub(crate) async fn second_node(&self) -> (SocketAddr, Option<Node>) {
        match &self.backend {
            Backend::Process(_, fixture) => {
                let node = Node::start(fixture, &[]).await;
                (node.address, Some(node))
            }
            Backend::InProcess(_) => (self.address, None),
        }
    }

    /// Returns the tokens of a service in this process, for changes by an operator.
    pub(crate) fn tokens(&self) -> &ServiceTokens {
        &self.in_process().tokens
    }

    fn in_process(&self) -> &InProcessService {
        match &self.backend {
            Backend::InProcess(in_process) => in_process,
            Backend::Process(..) => panic!("the service runs in another process"),
        }
    }

    /// Sends a request such as `GET /workspace`, with this secret and a JSON body, if any.
    pub(crate) async fn send(
        &self,
        secret: &str,
        request: &str,
        body: Option<Value>,
    ) -> HttpResponse {
        request_with_body(secret, request, body)
            .send(self.address)
            .await
    }

    /// Sends a request as the first administrator.
    pub(crate) async fn send_as_admin(&self, request: &str, body: Option<Value>) -> HttpResponse {
        self.send(&self.admin.secret, request, body).await
    }

    /// Creates a token as the first administrator.
    pub(crate) async fn create(&self, body: Value) -> Token {
        let created = self.send_as_admin("POST /service-tokens", Some(body)).await;
        Token::from_response(&created.assert(201))
    }

    /// Creates a token with these scopes.
    pub(crate) async fn create_with_scopes(&self, scopes: &[&str]) -> Token {
        self.create(json!({ "name": "holder", "scopes": scopes }))
            .await
    }

    /// Creates tokens with this label, several at a time.
    pub(crate) async fn create_many(&self, label: &str, count: usize) {
        const CONCURRENCY: usize = 8;
        let mut creations = JoinSet::new();
        for number in 0..count {
            if creations.len() == CONCURRENCY {
                creations.join_next().await.unwrap().unwrap();
            }
            let body = json!({ "name": format!("{label}-{number}"), "labels": { "of": label } });
            let request = request_with_body(&self.admin.secret, "POST /service-tokens", Some(body));
            let address = self.address;
            creations.spawn(async move { drop(request.send(address).await.assert(201)) });
        }
        creations.join_all().await;
    }

    /// Updates a token as the first administrator.
    pub(crate) async fn patch(&self, id: &str, body: Value) -> HttpResponse {
        let request = format!("PATCH /service-tokens/{id}");
        self.send_as_admin(&request, Some(body)).await.assert(200)
    }

    /// Returns a token as the first administrator reads it.
    pub(crate) async fn get(&self, id: &str) -> Value {
        let request = format!("GET /service-tokens/{id}");
        self.send_as_admin(&request, None).await.assert(200).json()
    }

    /// Returns all tokens by ID, as the first administrator reads them.
    pub(crate) async fn list(&self) -> BTreeMap<String, Value> {
        self.list_as(&self.admin.secret).await
    }

    /// Returns all tokens by ID, without `last_used_at`, which each use changes.
    pub(crate) async fn list_as(&self, secret: &str) -> BTreeMap<String, Value> {
        let page = self.send(secret, "GET /service-tokens?limit=1000", None);
        let page = page.await.assert(200).json();
        assert!(page["next_cursor"].is_null());
        let tokens = page["service_tokens"].as_array().unwrap().iter();
        let tokens = tokens.map(|token| {
            let mut token = token.clone();
            token.as_object_mut().unwrap().remove("last_used_at");
            (token["id"].as_str().unwrap().to_owned(), token)
        });
        tokens.collect()
    }

    /// Returns the status of a request that needs a valid token and no scope.
    pub(crate) async fn status_of(&self, secret: &str) -> u16 {
        let request = self.send(secret, "GET /service-tokens/self", None);
        request.await.status
    }

    /// Sets an expiry of 20 ms and waits until the service rejects the token.
    pub(crate) async fn expire(&self, token: &Token) {
        self.patch(&token.id, json!({ "expires_in": "20ms" })).await;
        if let Backend::InProcess(in_process) = &self.backend {
            in_process.clock.advance(Duration::from_millis(20));
        }
        while self.status_of(&token.secret).await != 401 {
            poll_interval().await;
        }
    }

    /// Returns the time this many seconds after the next noon UTC, by the clock of the service. Noon is not
    /// the end of a day, which the APIs treat as a date.
    pub(crate) fn time_in(&self, seconds: i64) -> String {
        const DAY: i64 = 86_400;
        let now = match &self.backend {
            Backend::InProcess(_) => SystemTime::UNIX_EPOCH + START,
            Backend::Process(..) => SystemTime::now(),
        };
        let now = jiff::Timestamp::try_from(now).unwrap().as_second();
        let noon = (now + DAY / 2) / DAY * DAY + DAY / 2;
        let time = jiff::Timestamp::from_second(noon + seconds).unwrap();
        time.to_string()
    }
}

/// Creates a request such as `GET /workspace`, with this secret and a JSON body, if any.
pub(crate) fn request_with_body(secret: &str, request: &str, body: Option<Value>) -> HttpRequest {
    let (method, target) = request.split_once(' ').unwrap();
    let request = HttpRequest::new(method, target).with_key(secret);
    match body {
        Some(body) => request
            .with("content-type", "application/json")
            .with_body(&body.to_string()),
        None => request,
    }
}
