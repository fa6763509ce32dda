//! A service under test over any store, and its callers.

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
    kind: Kind,
}

enum Kind {
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
    /// Of the response to a creation or a rotation.
    pub(crate) fn of(answer: &HttpResponse) -> Self {
        Self {
            id: answer.text("/service_token/id"),
            secret: answer.text("/token"),
        }
    }
}

impl TestService {
    pub(crate) async fn node(fixture: StoreFixture) -> Arc<Self> {
        let (node, secret) = Node::bootstrap(&fixture, &[]).await;
        let own = HttpRequest::get("/service-tokens/self").with_key(&secret);
        let id = own.send(node.address).await.assert(200).text("/id");
        Arc::new(Self {
            address: node.address,
            admin: Token { id, secret },
            kind: Kind::Process(Box::new(node), fixture),
        })
    }

    pub(crate) async fn memory() -> Arc<Self> {
        let store = MemoryStore::new();
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + START);
        let tokens = ServiceTokens::new(store.clone()).with_clock(clock.clone());
        let layer = ServiceTokenLayer::new(store).with_clock(clock.clone());
        Self::serving(tokens, layer, clock).await
    }

    /// The routes of `svctok serve`, in this process.
    pub(crate) async fn serving(
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
            kind: Kind::InProcess(Box::new(InProcessService {
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
        if let Kind::Process(node, fixture) = service.kind {
            drop(node);
            fixture.remove().await;
        }
    }

    /// The address of a second node on the same store, and what keeps it running. In process there
    /// is one node.
    pub(crate) async fn second_node(&self) -> (SocketAddr, Option<Node>) {
        match &self.kind {
            Kind::Process(_, fixture) => {
                let node = Node::start(fixture, &[]).await;
                (node.address, Some(node))
            }
            Kind::InProcess(_) => (self.address, None),
        }
    }

    /// The tokens of a service in this process, changed by an operator.
    pub(crate) fn tokens(&self) -> &ServiceTokens {
        &self.in_process().tokens
    }

    fn in_process(&self) -> &InProcessService {
        match &self.kind {
            Kind::InProcess(in_process) => in_process,
            Kind::Process(..) => panic!("another process has the tokens"),
        }
    }

    /// Sends a request such as `GET /workspace`, with this secret and a JSON body, if any.
    pub(crate) async fn call(&self, secret: &str, call: &str, body: Option<Value>) -> HttpResponse {
        call_with_body(secret, call, body).send(self.address).await
    }

    /// Sends a request as the first administrator.
    pub(crate) async fn admin(&self, call: &str, body: Option<Value>) -> HttpResponse {
        self.call(&self.admin.secret, call, body).await
    }

    /// Creates a token as the first administrator.
    pub(crate) async fn create(&self, body: Value) -> Token {
        let created = self.admin("POST /service-tokens", Some(body)).await;
        Token::of(&created.assert(201))
    }

    /// Creates a token with these scopes.
    pub(crate) async fn holder(&self, scopes: &[&str]) -> Token {
        self.create(json!({ "name": "holder", "scopes": scopes }))
            .await
    }

    /// Creates tokens that have this label, several at a time.
    pub(crate) async fn create_many(&self, label: &str, count: usize) {
        const AT_A_TIME: usize = 8;
        let mut creations = JoinSet::new();
        for number in 0..count {
            if creations.len() == AT_A_TIME {
                creations.join_next().await.unwrap().unwrap();
            }
            let body = json!({ "name": format!("{label}-{number}"), "labels": { "of": label } });
            let call = call_with_body(&self.admin.secret, "POST /service-tokens", Some(body));
            let address = self.address;
            creations.spawn(async move { drop(call.send(address).await.assert(201)) });
        }
        creations.join_all().await;
    }

    /// Updates a token as the first administrator.
    pub(crate) async fn patch(&self, id: &str, body: Value) -> HttpResponse {
        let call = format!("PATCH /service-tokens/{id}");
        self.admin(&call, Some(body)).await.assert(200)
    }

    /// A token as the first administrator sees it.
    pub(crate) async fn shown(&self, id: &str) -> Value {
        let call = format!("GET /service-tokens/{id}");
        self.admin(&call, None).await.assert(200).json()
    }

    /// All tokens by id, as the first administrator sees them.
    pub(crate) async fn listed(&self) -> BTreeMap<String, Value> {
        self.listed_by(&self.admin.secret).await
    }

    /// All tokens by id. When they were last used is not a change.
    pub(crate) async fn listed_by(&self, secret: &str) -> BTreeMap<String, Value> {
        let page = self.call(secret, "GET /service-tokens?limit=1000", None);
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

    /// The status of a request that needs a valid token and no scope.
    pub(crate) async fn status_of(&self, secret: &str) -> u16 {
        let call = self.call(secret, "GET /service-tokens/self", None);
        call.await.status
    }

    /// Gives a token an expiry that passes at once, and waits until the service refuses it.
    pub(crate) async fn expire(&self, token: &Token) {
        self.patch(&token.id, json!({ "expires_in": "20ms" })).await;
        if let Kind::InProcess(in_process) = &self.kind {
            in_process.clock.advance(Duration::from_millis(20));
        }
        while self.status_of(&token.secret).await != 401 {
            poll_interval().await;
        }
    }

    /// A time so many seconds after the next noon, UTC, by the service's clock: no end of a day.
    pub(crate) fn time_in(&self, seconds: i64) -> String {
        const DAY: i64 = 86_400;
        let now = match &self.kind {
            Kind::InProcess(_) => SystemTime::UNIX_EPOCH + START,
            Kind::Process(..) => SystemTime::now(),
        };
        let now = jiff::Timestamp::try_from(now).unwrap().as_second();
        let noon = (now + DAY / 2) / DAY * DAY + DAY / 2;
        let time = jiff::Timestamp::from_second(noon + seconds).unwrap();
        time.to_string()
    }
}

/// A request such as `GET /workspace`, with this secret and a JSON body, if any.
pub(crate) fn call_with_body(secret: &str, call: &str, body: Option<Value>) -> HttpRequest {
    let (method, target) = call.split_once(' ').unwrap();
    let call = HttpRequest::new(method, target).with_key(secret);
    match body {
        Some(body) => call
            .with("content-type", "application/json")
            .with_body(&body.to_string()),
        None => call,
    }
}
