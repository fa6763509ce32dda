//! The fixture of the tests: a registry, a manual clock, an audit sink and the layer.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::{Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use tower_service_token::audit::{AuditAction, AuditEvent, AuditSink};
use tower_service_token::clock::ManualClock;
use tower_service_token::lifecycle::{
    FieldProblem, IssuedToken, LifecycleError, NewToken, Page, TokenPolicy,
};
use tower_service_token::registry::{TokenFilter, TokenRegistry};
use tower_service_token::reject::Rejection;
use tower_service_token::{Principal, ServiceTokenLayer, ServiceTokens};

pub(super) const HOUR: Duration = Duration::from_secs(3600);

pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// 2026-11-22T10:30:00Z
pub(super) fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_343_400)
}

#[derive(Clone, Default)]
pub(super) struct RecordingSink(pub(super) Arc<Mutex<Vec<AuditEvent>>>);

impl AuditSink for RecordingSink {
    fn record(&self, event: &AuditEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl RecordingSink {
    pub(super) fn actions(&self) -> Vec<AuditAction> {
        let events = self.0.lock().unwrap();
        events.iter().map(AuditEvent::action).collect()
    }

    pub(super) fn last(&self) -> AuditEvent {
        self.0.lock().unwrap().last().unwrap().clone()
    }
}

/// The registry under test.
pub type Store = Arc<dyn TokenRegistry>;

pub(super) struct Fixture {
    pub(super) store: Store,
    pub(super) clock: ManualClock,
    pub(super) sink: RecordingSink,
    pub(super) tokens: ServiceTokens,
}

pub(super) fn fixture(store: Store) -> Fixture {
    fixture_with(store, TokenPolicy::new())
}

pub(super) fn fixture_with(store: Store, policy: TokenPolicy) -> Fixture {
    let (clock, sink) = (ManualClock::new(start()), RecordingSink::default());
    let tokens = ServiceTokens::new(store.clone())
        .with_clock(clock.clone())
        .with_policy(policy)
        .with_audit_sink(sink.clone());
    Fixture {
        store,
        clock,
        sink,
        tokens,
    }
}

impl Fixture {
    /// Sends a request with this token. Returns its status and the code of its rejection.
    pub(super) async fn status(&self, token: &str) -> (StatusCode, Option<&'static str>) {
        let (status, rejection) = match self.present(token).await {
            Ok(_) => (StatusCode::OK, None),
            Err(rejection) => (rejection.status(), Some(rejection.code())),
        };
        (status, rejection)
    }

    pub(super) async fn present(&self, token: &str) -> Result<Principal, Rejection> {
        let layer = ServiceTokenLayer::new(self.store.clone()).with_clock(self.clock.clone());
        let service = layer.layer(service_fn(return_principal));
        let request = Request::builder().header("x-api-key", token);
        let mut response = service
            .oneshot(request.body(String::new()).unwrap())
            .await
            .unwrap();
        let rejection = response.extensions_mut().remove::<Rejection>();
        match response.extensions_mut().remove::<Principal>() {
            Some(principal) => Ok(principal),
            None => Err(rejection.unwrap()),
        }
    }

    pub(super) async fn create(&self, name: &str) -> IssuedToken {
        self.tokens.create(NewToken::new(name)).await.unwrap()
    }

    pub(super) async fn names(&self, filter: TokenFilter) -> Vec<String> {
        let page = self.tokens.list(filter, Page::default()).await.unwrap();
        let names = page.records.iter().map(|record| record.name().to_owned());
        names.collect()
    }
}

/// Returns the principal of the request in the response.
async fn return_principal(request: Request<String>) -> Result<Response<String>, Infallible> {
    let mut response = Response::new(String::new());
    let principal = request.extensions().get::<Principal>().cloned();
    response.extensions_mut().insert(principal.unwrap());
    Ok(response)
}

pub(super) const REJECTED: (StatusCode, Option<&str>) =
    (StatusCode::UNAUTHORIZED, Some("invalid_token"));

pub(super) const ACCEPTED: (StatusCode, Option<&str>) = (StatusCode::OK, None);

pub(super) fn rejected(code: &'static str) -> (StatusCode, Option<&'static str>) {
    (StatusCode::UNAUTHORIZED, Some(code))
}

pub(super) fn pointers(error: LifecycleError) -> Vec<String> {
    let LifecycleError::Invalid(problems) = error else {
        panic!("{error}");
    };
    let pointers = problems
        .into_iter()
        .map(|it: FieldProblem| it.pointer.into_owned());
    pointers.collect()
}
