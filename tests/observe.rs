//! What an operator sees: one event for each refusal, and counts and latencies by outcome.
#![cfg(all(feature = "tracing", feature = "metrics"))]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::executor::block_on;
use http::{Request, Response};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_service_token::authorize::RequireRolesLayer;
use tower_service_token::store::{Credential, StoreError, TokenRecord, TokenState};
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, ServiceTokenLayer, TokenStore};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing_subscriber::layer::{Context, SubscriberExt};

type Event = BTreeMap<String, String>;

/// Keeps the fields of each event of ours.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<Event>>>);

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
        if metadata.target() == "tower_service_token" {
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

struct Down;

#[async_trait]
impl TokenStore for Down {
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

/// The events and metrics of `run`, metrics as `name{label}` with their count.
fn observed(run: impl FnOnce()) -> (Vec<Event>, BTreeMap<String, u64>) {
    let events = Events::default();
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
    let message = ("message", "request refused");
    let fields = fields.iter().chain([&message]);
    fields
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn every_refusal_is_one_event_with_fixed_fields_and_every_outcome_is_counted() {
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

    let (events, counts) = observed(|| {
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
            ServiceTokenLayer::new(Down).layer(service_fn(hello)),
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
                    "a guard or extractor needs a ServiceTokenLayer around it, and there is none"
                )
            ]),
        ]
    );

    assert_eq!(counts, expected_counts());
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
        expected.insert(
            format!("service_token_check_seconds{{outcome={outcome}}}"),
            count,
        );
    }
    for reason in ["insufficient_scope", "missing_layer"] {
        expected.insert(
            format!("service_token_guard_refusals_total{{reason={reason}}}"),
            1,
        );
    }
    expected
}
