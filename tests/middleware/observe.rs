//! Logs and metrics: one event for each rejection, and counters and latencies by outcome.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::executor::block_on;
use http::{Request, Response};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tests::events;
use tests::global_subscriber::install_global_subscriber;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_service_token::authorize::{Caller, RequireRolesLayer};
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{NewToken, Operator};
use tower_service_token::limits::PeerAddress;
use tower_service_token::principal::Identity;
use tower_service_token::reject::FailureLogged;
use tower_service_token::store::{Credential, StoreError, TokenRecord, TokenState};
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens, TokenStore};
use tracing::Instrument;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing_subscriber::layer::{Context, SubscriberExt};

type Event = BTreeMap<String, String>;

/// Records the fields of every event with this target.
#[derive(Clone)]
struct Events(Arc<Mutex<Vec<Event>>>, &'static str);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Fields(Event);
        impl Visit for Fields {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                self.0.insert(field.name().to_owned(), format!("{value:?}"));
            }
            fn record_str(&mut self, field: &Field, value: &str) {
                self.0.insert(field.name().to_owned(), value.to_owned());
            }
        }
        let metadata = event.metadata();
        if metadata.target() == self.1 {
            let level = ("level".to_owned(), metadata.level().to_string());
            let mut fields = Fields(Event::from([level]));
            event.record(&mut fields);
            self.0.lock().unwrap().push(fields.0);
        }
    }

    fn on_new_span(&self, _: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        panic!("the layer opens no spans");
    }
}

struct UnavailableStore;

#[async_trait]
impl TokenStore for UnavailableStore {
    async fn find(&self, _: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        let cause = std::io::Error::other("connection refused");
        Err(StoreError::unavailable(cause))
    }
}

async fn hello(_: Request<String>) -> Result<Response<String>, Infallible> {
    Ok(Response::default())
}

fn send(
    service: impl Service<Request<String>, Response = Response<String>, Error = Infallible>,
    token: Option<&str>,
) {
    let mut request = Request::new(String::new());
    if let Some(token) = token {
        request
            .headers_mut()
            .insert("x-api-key", token.parse().unwrap());
    }
    block_on(service.oneshot(request)).unwrap();
}

/// Runs `run`. Returns its events with this target, and its metrics as `name{label}` with their
/// count.
fn observe(target: &'static str, run: impl FnOnce()) -> (Vec<Event>, BTreeMap<String, u64>) {
    install_global_subscriber();
    let events = Events(Arc::default(), target);
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let subscriber = tracing_subscriber::registry().with(events.clone());
    tracing::subscriber::with_default(subscriber, || metrics::with_local_recorder(&recorder, run));
    let mut counts = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let labels = key
            .key()
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()));
        let name = format!(
            "{}{{{}}}",
            key.key().name(),
            labels.collect::<Vec<_>>().join(",")
        );
        let count = match value {
            DebugValue::Counter(count) => count,
            DebugValue::Histogram(values) => {
                assert!(
                    values
                        .iter()
                        .all(|seconds| (0.0..60.0).contains(&seconds.0))
                );
                values.len() as u64
            }
            DebugValue::Gauge(_) => panic!("no gauges"),
        };
        counts.insert(name, count);
    }
    let events = events.0.lock().unwrap().clone();
    (events, counts)
}

fn event(fields: &[(&str, &str)]) -> Event {
    let message = ("message", "request rejected");
    let fields = fields.iter().chain([&message]);
    fields
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn logs_each_rejection_once_and_counts_each_outcome() {
    let store = MemoryStore::new();
    let good = TokenFormat::default().mint().unwrap();
    let revoked = TokenFormat::default().mint().unwrap();
    store.insert(TokenRecord::from(&good)).unwrap();
    store
        .insert(TokenRecord::from(&revoked).with_state(TokenState::Revoked))
        .unwrap();
    let (good_id, revoked_id) = (good.id().to_string(), revoked.id().to_string());
    let guarded = RequireRolesLayer::any_of(["admin"]).layer(service_fn(hello));
    let layer = ServiceTokenLayer::new(store);

    let (events, counts) = observe("tower_service_token", || {
        let plain = layer.layer(service_fn(hello));
        send(plain.clone(), Some(good.expose_secret()));
        send(plain.clone(), Some(good.expose_secret()));
        send(plain.clone(), None);
        send(plain.clone(), Some("unknown"));
        send(plain.clone(), Some("two words"));
        send(plain.clone(), Some(revoked.expose_secret()));
        send(layer.clone().optional().layer(service_fn(hello)), None);
        send(layer.layer(guarded.clone()), Some(good.expose_secret()));
        send(
            ServiceTokenLayer::new(UnavailableStore).layer(service_fn(hello)),
            Some("any"),
        );
        send(guarded.clone(), None);
    });

    assert_eq!(
        events,
        [
            event(&[
                ("level", "INFO"),
                ("reason", "missing_token"),
                ("code", "missing_token"),
                ("status", "401")
            ]),
            event(&[
                ("level", "INFO"),
                ("reason", "unknown_token"),
                ("code", "invalid_token"),
                ("status", "401")
            ]),
            event(&[
                ("level", "INFO"),
                ("reason", "malformed_header"),
                ("code", "invalid_request"),
                ("status", "400")
            ]),
            event(&[
                ("level", "INFO"),
                ("reason", "revoked_token"),
                ("code", "token_revoked"),
                ("status", "401"),
                ("token_id", &revoked_id)
            ]),
            event(&[
                ("level", "INFO"),
                ("reason", "insufficient_scope"),
                ("code", "insufficient_scope"),
                ("status", "403"),
                ("token_id", &good_id)
            ]),
            event(&[
                ("level", "ERROR"),
                ("reason", "store_unavailable"),
                ("code", "auth_unavailable"),
                ("status", "503"),
                (
                    "error",
                    "the token store is unavailable: connection refused"
                )
            ]),
            event(&[
                ("level", "ERROR"),
                ("reason", "missing_layer"),
                ("code", "internal"),
                ("status", "500"),
                (
                    "error",
                    "no ServiceTokenLayer in front of the guard or extractor"
                )
            ]),
        ]
    );

    assert_eq!(counts, expected_counts());
}

#[test]
fn identities_are_counted_and_not_named() {
    let layer = ServiceTokenLayer::new(MemoryStore::new());
    let layer = layer.with_identity(|_| Some(Identity::new("alice")));
    let guard = RequireRolesLayer::any_of(["admin"]);
    let guarded = layer.layer(guard.layer(service_fn(hello)));
    let (events, counts) = observe("tower_service_token", || send(guarded, None));
    let expected = event(&[
        ("level", "INFO"),
        ("reason", "identity_insufficient_scope"),
        ("code", "insufficient_scope"),
        ("status", "403"),
    ]);
    assert_eq!(events, [expected]);
    let expected = [
        "service_token_guard_rejections_total{reason=identity_insufficient_scope}",
        "service_token_requests_total{outcome=identity}",
    ];
    assert_eq!(counts, expected.map(|name| (name.to_owned(), 1)).into());
}

#[test]
fn the_rejection_of_a_missing_caller_names_the_client() {
    install_global_subscriber();
    let mut extensions = http::Extensions::new();
    extensions.insert(PeerAddress(([192, 0, 2, 1], 4000).into()));
    let events = events::Events::default();
    let _guard = events.start();
    Caller::from_extensions(&extensions).unwrap_err();
    events::assert_fields(
        &events.only(),
        &[("reason", "missing_layer"), ("client", "192.0.2.1")],
    );
}

/// Sends a request with this request ID. Returns its only event and its response.
fn send_and_record<S>(service: S, id: Option<&str>) -> (Event, Response<String>)
where
    S: Service<Request<String>, Response = Response<String>, Error = Infallible>,
{
    let events = events::Events::default();
    let _guard = events.start();
    let mut request = Request::new(String::new());
    let headers = request.headers_mut();
    headers.insert("x-api-key", "any".parse().unwrap());
    if let Some(id) = id {
        headers.insert("x-request-id", id.parse().unwrap());
    }
    let response = block_on(service.oneshot(request)).unwrap();
    (events.only(), response)
}

#[test]
fn logs_the_request_id_and_marks_failed_responses() {
    let layer = || ServiceTokenLayer::new(UnavailableStore).layer(service_fn(hello));
    let guard = || RequireRolesLayer::any_of(["admin"]).layer(service_fn(hello));
    for id in [Some("req-7"), None, Some("a b"), Some("svctok-7Hq2mX9bTe")] {
        let expected = id.filter(|id| *id == "req-7");
        for (event, response) in [send_and_record(layer(), id), send_and_record(guard(), id)] {
            events::assert_fields(&event, &[("level", "ERROR")]);
            assert_eq!(event.get("request_id").map(String::as_str), expected);
            assert!(response.extensions().get::<FailureLogged>().is_some());
        }
    }
    let unknown = ServiceTokenLayer::new(MemoryStore::new()).layer(service_fn(hello));
    let (event, response) = send_and_record(unknown, Some("req-7"));
    events::assert_fields(&event, &[("level", "INFO"), ("request_id", "req-7")]);
    assert!(response.extensions().get::<FailureLogged>().is_none());
}

#[test]
fn omits_the_request_id_if_the_current_span_has_it() {
    let within = |span: fn() -> tracing::Span| {
        let inner = ServiceTokenLayer::new(UnavailableStore).layer(service_fn(hello));
        let service = service_fn(move |request| {
            let inner = inner.clone();
            inner.oneshot(request).instrument(span())
        });
        send_and_record(service, Some("req-7")).0
    };
    let with_id = within(|| tracing::info_span!("request", request_id = "req-7"));
    assert!(!with_id.contains_key("request_id"));
    let without = within(|| tracing::info_span!("request"));
    events::assert_fields(&without, &[("request_id", "req-7")]);
}

fn expected_counts() -> BTreeMap<String, u64> {
    let mut expected = BTreeMap::new();
    for (outcome, count) in [
        ("accepted", 3),
        ("anonymous", 1),
        ("missing_token", 1),
        ("unknown_token", 1),
        ("malformed_header", 1),
        ("revoked_token", 1),
        ("store_unavailable", 1),
    ] {
        expected.insert(
            format!("service_token_requests_total{{outcome={outcome}}}"),
            count,
        );
    }
    // The other requests did not wait for their store.
    let waited = "service_token_lookup_seconds{outcome=store_unavailable}";
    expected.insert(waited.to_owned(), 1);
    for reason in ["insufficient_scope", "missing_layer"] {
        expected.insert(
            format!("service_token_guard_rejections_total{{reason={reason}}}"),
            1,
        );
    }
    expected
}

#[test]
fn logs_and_counts_each_use_of_the_previous_secret() {
    let store = MemoryStore::new();
    let (old, new) = (
        TokenFormat::default().mint().unwrap(),
        TokenFormat::default().mint().unwrap(),
    );
    let previous = TokenDigest::of(old.expose_secret());
    let until = SystemTime::now() + Duration::from_secs(3600);
    let record = TokenRecord::from(&new).with_previous_digest((previous, until));
    store.insert(record).unwrap();
    let service = ServiceTokenLayer::new(store).layer(service_fn(hello));
    let (events, counts) = observe("tower_service_token::rotation", || {
        for token in [&old, &new, &old] {
            send(service.clone(), Some(token.expose_secret()));
        }
    });
    let expected = Event::from(
        [
            ("level", "INFO"),
            ("message", "previous secret used"),
            ("token_id", &new.id().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    assert_eq!(events, [expected.clone(), expected]);
    assert_eq!(counts["service_token_previous_secret_uses_total{}"], 2);
}

#[test]
fn audit_events_cover_changes_and_rejections_of_known_tokens() {
    let store = MemoryStore::new();
    let tokens = ServiceTokens::new(store.clone()).acting_for(Operator::new("alice"));
    let service = ServiceTokenLayer::new(store).layer(service_fn(hello));
    let mut id = String::new();
    let (events, _) = observe("tower_service_token::audit", || {
        let issued = block_on(tokens.create(NewToken::new("ci"))).unwrap();
        id = issued.record().id().to_string();
        block_on(tokens.disable(issued.record().id())).unwrap();
        send(service.clone(), Some(issued.expose_secret()));
        send(service.clone(), Some("unknown"));
        send(service.clone(), None);
    });
    let fields = events.iter().map(|event| {
        ["level", "action", "actor", "token_id", "changes"].map(|field| event.get(field).cloned())
    });
    let holder = format!("token:{id}");
    let expected = [
        ("created", "operator:alice", Some("name: none to \"ci\"")),
        (
            "disabled",
            "operator:alice",
            Some("state: \"active\" to \"disabled\""),
        ),
        ("refused_disabled", &holder, None),
    ];
    let expected = expected.map(|(action, actor, changes)| {
        [Some("INFO"), Some(action), Some(actor), Some(&id), changes]
            .map(|text| text.map(str::to_owned))
    });
    assert_eq!(fields.collect::<Vec<_>>(), expected);
}
