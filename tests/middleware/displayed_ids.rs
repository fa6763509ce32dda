//! The id that a store displays, and the data that it adds to a record.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures::executor::block_on;
use http::{Request, Response};
use serde_json::Value;
use tests::capture::captured;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_service_token::audit::{AuditEvent, AuditSink};
use tower_service_token::authorize::RequireRolesLayer;
use tower_service_token::clock::SystemClock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::reject::Rejection;
use tower_service_token::store::{Credential, TokenRecord, TokenState, verdict};
use tower_service_token::token::{DisplayId, PresentedToken, TokenId};
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer};

const UUID: &str = "0193b3a4-9c1e-7b52-8f0d-2f8f6a1c9e77";
const TOKEN: &str = "a-key-of-the-table";
const PREVIOUS: &str = "the-key-before-the-rotation";

#[derive(Clone, Debug, PartialEq)]
struct Tenant(&'static str);

#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<Vec<AuditEvent>>>);

impl AuditSink for Recorded {
    fn record(&self, event: &AuditEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

fn id() -> TokenId {
    TokenId::derive(UUID)
}

fn record() -> TokenRecord {
    TokenRecord::new(id(), TokenDigest::of(TOKEN))
        .with_name("ci")
        .with_display_id(DisplayId::new(UUID).unwrap())
        .with_data(Tenant("acme"))
}

fn layer(record: TokenRecord) -> ServiceTokenLayer {
    let store = MemoryStore::new();
    store.insert(record).unwrap();
    ServiceTokenLayer::new(store)
}

fn send(
    service: impl Service<Request<String>, Response = Response<String>, Error = Infallible>,
    token: &str,
) -> Response<String> {
    let request = Request::builder().header("x-api-key", token);
    block_on(service.oneshot(request.body(String::new()).unwrap())).unwrap()
}

async fn hello(_: Request<String>) -> Result<Response<String>, Infallible> {
    Ok(Response::default())
}

/// A credential with this token, for a verdict without a layer.
fn credential(token: &str) -> Credential<'_> {
    Credential::new(PresentedToken::new(token).unwrap())
}

/// Panics unless the log of a request shows the displayed id, and the metrics no id.
fn assert_observed(log: &str, metrics: &str) {
    if cfg!(feature = "tracing") {
        assert!(log.contains(&format!("token_id={UUID}")), "{log}");
        assert!(!log.contains(&id().to_string()), "{log}");
    }
    for id in [UUID, &id().to_string()] {
        assert!(!metrics.contains(id), "{metrics}");
    }
}

#[test]
fn principal_displays_the_id_and_carries_the_data() {
    let service = layer(record()).layer(service_fn(async |request: Request<String>| {
        let principal = request.extensions().get::<Principal>().unwrap();
        assert_eq!(principal.id(), id());
        assert_eq!(principal.display_id().to_string(), UUID);
        assert_eq!(principal.data(), Some(&Tenant("acme")));
        assert_eq!(principal.data::<String>(), None);
        let debug = format!("{principal:?}");
        assert!(debug.contains(UUID) && !debug.contains("acme"), "{debug}");
        let json = serde_json::to_value(principal).unwrap();
        assert_eq!(json["id"], UUID);
        Ok::<_, Infallible>(Response::new("ok".to_owned()))
    }));
    assert_eq!(send(service, TOKEN).body(), "ok");
}

#[test]
fn token_without_a_displayed_id_shows_its_token_id() {
    let record = record().with_display_id(None);
    let principal = verdict(Some(record), &credential(TOKEN), &SystemClock).unwrap();
    assert_eq!(principal.display_id(), DisplayId::from(id()));
    assert_eq!(principal.display_id().to_string(), id().to_string());
}

#[test]
fn rejections_of_known_tokens_show_the_displayed_id() {
    let now = SystemTime::now();
    let second = Duration::from_secs(1);
    let superseded = (TokenDigest::of(PREVIOUS), now - second);
    for (token, record, code) in [
        (
            TOKEN,
            record().with_state(TokenState::Revoked),
            "token_revoked",
        ),
        (
            TOKEN,
            record().with_state(TokenState::Disabled),
            "token_disabled",
        ),
        (
            TOKEN,
            record().with_expires_at(now - second),
            "token_expired",
        ),
        (
            PREVIOUS,
            record().with_previous_digest(superseded),
            "token_expired",
        ),
        (
            TOKEN,
            record().with_not_before(now + 60 * second),
            "token_not_yet_valid",
        ),
    ] {
        let denial = verdict(Some(record.clone()), &credential(token), &SystemClock).unwrap_err();
        assert_eq!(denial.token_id(), Some(id()), "{code}");
        assert_eq!(denial.display_id().unwrap().to_string(), UUID, "{code}");

        let events = Recorded::default();
        let layer = layer(record).with_audit_sink(events.clone());
        let service = layer.layer(service_fn(hello));
        let (response, log, metrics) = captured(|| send(service, token));
        let body: Value = serde_json::from_str(response.body()).unwrap();
        assert_eq!(
            (&body["code"], &body["token_id"]),
            (&code.into(), &UUID.into())
        );
        let rejection = response.extensions().get::<Rejection>().unwrap();
        assert_eq!(rejection.token_id(), Some(id()));
        assert_eq!(rejection.display_id().unwrap().to_string(), UUID);
        assert!(format!("{rejection:?}").contains(UUID), "{rejection:?}");
        assert_observed(&log, &metrics);

        let [event] = &events.0.lock().unwrap()[..] else {
            panic!("one event for {code}");
        };
        assert_eq!(event.actor(), format!("token:{UUID}"), "{code}");
        assert_eq!(event.display_id().to_string(), UUID, "{code}");
        assert_eq!(event.token_id(), id(), "{code}");
    }
}

#[test]
fn default_audit_log_shows_the_displayed_id() {
    let layer = layer(record().with_state(TokenState::Revoked));
    let (_, log, _) = captured(|| send(layer.layer(service_fn(hello)), TOKEN));
    if cfg!(feature = "tracing") {
        let audit = log.lines().find(|line| line.contains("::audit"));
        let audit = audit.expect("an audit event");
        assert!(
            audit.contains(&format!("actor=\"token:{UUID}\"")),
            "{audit}"
        );
        assert!(audit.contains(&format!("token_id={UUID}")), "{audit}");
    }
}

#[test]
fn rejections_without_the_secret_show_no_id() {
    let other = record().with_digest(TokenDigest::of("another"));
    let denial = verdict(Some(other), &credential(TOKEN), &SystemClock).unwrap_err();
    assert_eq!((denial.token_id(), denial.display_id()), (None, None));

    let service = layer(record()).layer(service_fn(hello));
    let (response, log, _) = captured(|| send(service, "unknown"));
    assert!(!response.body().contains("token_id"), "{}", response.body());
    assert!(!log.contains(UUID), "{log}");
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.display_id(), None);
}

#[test]
fn guards_show_the_displayed_id() {
    let guard = RequireRolesLayer::any_of(["admin"]).layer(service_fn(hello));
    let service = layer(record()).layer(guard);
    let (response, log, metrics) = captured(|| send(service, TOKEN));
    assert_eq!(response.status(), 403);
    let body: Value = serde_json::from_str(response.body()).unwrap();
    assert_eq!(body["token_id"], UUID);
    assert_observed(&log, &metrics);
}

#[test]
fn previous_secrets_are_logged_with_the_displayed_id() {
    let grace_end = SystemTime::now() + Duration::from_secs(60);
    let layer = layer(record().with_previous_digest((TokenDigest::of(PREVIOUS), grace_end)));
    let service = layer.layer(service_fn(hello));
    let (response, log, metrics) = captured(|| send(service, PREVIOUS));
    assert_eq!(response.status(), 200);
    assert_observed(&log, &metrics);
}

#[cfg(feature = "tracing")]
#[test]
fn spans_show_the_displayed_id() {
    let revoked = record().with_state(TokenState::Revoked);
    for record in [record(), revoked] {
        let service = layer(record).layer(service_fn(hello));
        let (_, log, _) = captured(|| {
            let span = tracing::info_span!("request", token_id = tracing::field::Empty);
            span.in_scope(|| send(service, TOKEN))
        });
        let closed = log.lines().find(|line| line.contains("close"));
        let closed = closed.expect("the span is closed");
        assert!(
            closed.contains(&format!("request{{token_id={UUID}}}")),
            "{log}"
        );
    }
}
