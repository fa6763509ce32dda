//! Serves all endpoints from one store, with a manual clock.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::Response;
use http::request::Builder;
use http::{HeaderMap, Request, StatusCode};
use serde_json::Value;
use tower::ServiceExt;
use tower_service_token::api::forward_auth::ForwardAuth;
use tower_service_token::api::oauth::OAuthEndpoints;
use tower_service_token::audit::{AuditAction, AuditEvent, AuditSink};
use tower_service_token::clock::ManualClock;
use tower_service_token::lifecycle::{IssuedToken, NewToken, TokenUpdate};
use tower_service_token::limits::FailureLimit;
use tower_service_token::registry::TokenRegistry;
use tower_service_token::store::TokenRecord;
use tower_service_token::testing::FaultyStore;
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
pub(crate) const INACTIVE: &str = r#"{"active":false}"#;
pub(crate) const INVALID_REQUEST: &str = r#"{"error":"invalid_request"}"#;
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// A well-formed unknown token.
pub(crate) const UNKNOWN: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";
/// The same token with a wrong checksum.
pub(crate) const DAMAGED: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0m";

pub(crate) fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// Records audit events.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordedEvents(Arc<Mutex<Vec<AuditEvent>>>);

impl RecordedEvents {
    pub(crate) fn of(&self, action: AuditAction) -> Vec<AuditEvent> {
        let events = self.0.lock().unwrap();
        let of_action = events.iter().filter(|event| event.action() == action);
        of_action.cloned().collect()
    }
}

impl AuditSink for RecordedEvents {
    fn record(&self, event: &AuditEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) clock: ManualClock,
    pub(crate) tokens: ServiceTokens,
    pub(crate) events: RecordedEvents,
    /// The token of a caller with the scope `introspect`.
    pub(crate) caller: Arc<IssuedToken>,
    pub(crate) app: Router,
}

impl Server {
    /// Uses a store that finds tokens in memory.
    pub(crate) async fn in_memory() -> Self {
        Self::with_store(MemoryStore::new()).await
    }

    /// Uses a store without a cache, into which a test can inject faults.
    pub(crate) async fn with_faulty_store() -> (Self, FaultyStore<MemoryStore>) {
        let store = FaultyStore::new(MemoryStore::new());
        (Self::with_store(store.clone()).await, store)
    }

    pub(crate) async fn with_store(store: impl TokenRegistry + Clone) -> Self {
        let clock = ManualClock::new(start());
        Self::build(clock.clone(), store, FailureLimit::new().with_clock(clock)).await
    }

    pub(crate) async fn with_limit(
        store: impl TokenRegistry + Clone,
        limit: impl FnOnce(FailureLimit) -> FailureLimit,
    ) -> Self {
        let clock = ManualClock::new(start());
        let limit = limit(FailureLimit::new().with_clock(clock.clone()));
        Self::build(clock, store, limit).await
    }

    async fn build(
        clock: ManualClock,
        store: impl TokenRegistry + Clone,
        limit: FailureLimit,
    ) -> Self {
        let events = RecordedEvents::default();
        let tokens = ServiceTokens::new(store.clone())
            .with_clock(clock.clone())
            .with_audit_sink(events.clone());
        let layer = ServiceTokenLayer::new(store)
            .with_clock(clock.clone())
            .with_audit_sink(events.clone())
            .optional();
        let new = NewToken::new("billing").with_scopes(["introspect"]);
        let caller = tokens.create(new).await.expect("a store without a fault");
        let oauth = OAuthEndpoints::new(tokens.clone(), layer.clone());
        let verify = ForwardAuth::new(layer).with_failure_limit(limit.clone());
        let app = Router::new()
            .merge(
                oauth
                    .with_failure_limit(limit.clone())
                    .with_service_failure_limit(limit)
                    .into_router(),
            )
            .merge(verify.into_router());
        Self {
            clock,
            tokens,
            events,
            caller: Arc::new(caller),
            app,
        }
    }

    pub(crate) async fn create(&self, new: NewToken) -> IssuedToken {
        self.tokens.create(new).await.expect("a valid new token")
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> TestResponse {
        let response = self.app.clone().oneshot(request).await.expect("infallible");
        TestResponse::of(response).await
    }

    /// Introspects a token as a caller with the required scope.
    pub(crate) async fn introspect(&self, token: &str) -> TestResponse {
        let body = form(&[("token", token)]);
        self.send(self.introspection().body(body).unwrap()).await
    }

    pub(crate) fn introspection(&self) -> Builder {
        let caller = self.caller.expose_secret();
        Request::post("/introspect")
            .header("authorization", format!("Bearer {caller}"))
            .header("content-type", FORM)
    }

    pub(crate) async fn revoke(&self, token: &str) -> TestResponse {
        let request = Request::post("/revoke").header("content-type", FORM);
        let request = request.body(form(&[("token", token)])).unwrap();
        self.send(request).await
    }

    /// Verifies a token with this query.
    pub(crate) async fn verify(&self, query: &str, token: &str) -> TestResponse {
        let request = Request::get(format!("/verify{query}")).header("x-api-key", token);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// Returns tokens that are invalid for different reasons, with a name for each.
    pub(crate) async fn bad_tokens(&self) -> Vec<(&'static str, String)> {
        let new = |name| NewToken::new(name);
        let expired = self
            .create(new("expired").with_expiry("1h".parse().unwrap()))
            .await;
        let revoked = self.create(new("revoked")).await;
        self.tokens.revoke(revoked.record().id()).await.unwrap();
        let disabled = self.create(new("disabled")).await;
        self.tokens.disable(disabled.record().id()).await.unwrap();
        let early = self
            .create(new("early").with_not_before(start() + 24 * HOUR))
            .await;
        let superseded = self.create(new("superseded")).await;
        let id = superseded.record().id();
        let _ = self.tokens.rotate(id, Duration::ZERO).await.unwrap();
        let past_grace = self.create(new("past grace")).await;
        let id = past_grace.record().id();
        let _ = self.tokens.rotate(id, HOUR).await.unwrap();
        self.clock.advance(HOUR);
        let issued = [
            ("expired", expired),
            ("revoked", revoked),
            ("disabled", disabled),
            ("not yet valid", early),
            ("superseded", superseded),
            ("past grace", past_grace),
        ];
        let issued = issued.map(|(name, token)| (name, token.expose_secret().to_owned()));
        let mut all: Vec<_> = issued.into();
        for (name, token) in [
            ("unknown", UNKNOWN),
            ("damaged", DAMAGED),
            ("foreign", "some-other-token"),
            ("two words", "two words"),
            ("not ASCII", "t\u{f6}ken"),
            ("a NUL", "a\0b"),
        ] {
            all.push((name, token.to_owned()));
        }
        all.push(("too long", "x".repeat(513)));
        all
    }

    pub(crate) async fn change(&self, token: &IssuedToken, update: TokenUpdate) {
        let changed = self.tokens.update(token.record().id(), update).await;
        changed.expect("a valid update");
    }
}

/// Inserts a new token whose record `with` customizes, and returns its secret.
pub(crate) fn insert(store: &MemoryStore, with: impl FnOnce(TokenRecord) -> TokenRecord) -> String {
    let token = TokenFormat::default().mint().expect("random bytes");
    let record = with(TokenRecord::from(&token));
    store.insert(record).expect("a new token");
    token.expose_secret().to_owned()
}

pub(crate) fn form(pairs: &[(&str, &str)]) -> Body {
    let mut form = form_urlencoded::Serializer::new(String::new());
    Body::from(form.extend_pairs(pairs).finish())
}

pub(crate) struct TestResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl TestResponse {
    async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body in memory");
        Self {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).expect("UTF-8"),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect(&self.body)
    }

    /// Returns the only value of a header, or an empty string if the header is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().map_or("", |value| value.to_str().unwrap());
        assert!(values.next().is_none(), "{name} is repeated");
        value
    }

    /// Returns the schemes of the challenges.
    pub(crate) fn challenges(&self) -> Vec<&str> {
        let challenges = self.headers.get_all("www-authenticate");
        let schemes = challenges
            .iter()
            .map(|it| it.to_str().unwrap().split(' ').next());
        schemes.map(|scheme| scheme.unwrap()).collect()
    }

    /// Asserts that the response is a problem with this status and code.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.json()["code"], code);
        assert_eq!(self.header("cache-control"), "no-store");
    }
}
