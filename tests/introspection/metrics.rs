//! Each request and each call is counted once, under its outcome.

use std::collections::BTreeMap;

use futures::future::join_all;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use serde_json::json;

use crate::protected_service::{
    Accepted, Kind, ProtectedService, Rejected, SECOND, TRANSIENT, Unavailable, clock,
};
use crate::upstream::{MockResponse, Upstream, active_with};

const PREFIX: &str = "service_token_introspection_";

/// Runs `run` and returns the metrics of the store by name and outcome.
fn record_metrics(run: impl Future<Output = ()>) -> BTreeMap<String, i64> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(run));
    let mut metrics_by_name = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let key = key.key();
        let Some(name) = key.name().strip_prefix(PREFIX) else {
            continue;
        };
        let labels: Vec<_> = key.labels().map(metrics::Label::value).collect();
        let value = match value {
            DebugValue::Counter(count) => i64::try_from(count).unwrap(),
            #[expect(clippy::cast_possible_truncation, reason = "a small count")]
            DebugValue::Gauge(value) => value.0 as i64,
            DebugValue::Histogram(_) => continue,
        };
        let name = format!("{name} {}", labels.join(" "));
        metrics_by_name.insert(name.trim_end().to_owned(), value);
    }
    metrics_by_name
}

#[track_caller]
fn assert_counted<const N: usize>(
    metrics_by_name: &BTreeMap<String, i64>,
    expected: [(&str, i64); N],
) {
    let mut metrics_by_name: Vec<_> = metrics_by_name
        .iter()
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    // A gauge that is zero again may or may not be listed.
    metrics_by_name.retain(|(name, count)| name.contains("_total") || *count != 0);
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(metrics_by_name, expected);
}

#[test]
fn counts_every_request_outcome() {
    let metrics_by_name = record_metrics(async {
        let clock = clock();
        let upstream = Upstream::new(|call| match call.token() {
            "active" => MockResponse::active(),
            _ => MockResponse::inactive(),
        });
        let service = ProtectedService::with(&upstream, &clock, |builder| {
            builder.with_stale_if_error(60 * SECOND)
        });
        for _ in 0..3 {
            assert_eq!(service.authenticate("active").await, Accepted);
            assert_eq!(service.authenticate("inactive").await, Rejected);
        }
        assert_eq!(service.authenticate("no=b64token").await, Rejected);
        service.store.clear();
        assert_eq!(
            join_all([
                service.authenticate("active"),
                service.authenticate("active")
            ])
            .await,
            [Accepted; 2]
        );
        clock.advance(10 * SECOND);
        upstream.respond_with(MockResponse::status(500));
        assert!(service.principal("active").await.is_stale());
    });
    assert_counted(
        &metrics_by_name,
        [
            ("calls_total active", 2),
            ("calls_total inactive", 1),
            ("calls_total transient", 1),
            ("requests_total coalesced", 1),
            ("requests_total hit", 2),
            ("requests_total miss", 4),
            ("requests_total negative_hit", 2),
            ("requests_total rejected_locally", 1),
            ("requests_total stale", 1),
        ],
    );
}

#[test]
fn counts_every_call_outcome_once() {
    for (response, outcome, calls) in [
        (MockResponse::active(), "active", 1),
        (MockResponse::inactive(), "inactive", 1),
        (
            MockResponse::error(400, "unsupported_token_type"),
            "unsupported_token",
            1,
        ),
        (MockResponse::status(400), "protocol", 1),
        (MockResponse::json("{"), "protocol", 1),
        (MockResponse::status(401), "credentials", 1),
        (MockResponse::status(500), "transient", 1),
        (MockResponse::status(503), "transient", 2),
        (MockResponse::Hang, "timed_out", 1),
        (MockResponse::Panic, "lost", 1),
    ] {
        let upstream = Upstream::responding(response);
        let metrics_by_name = record_metrics({
            let upstream = upstream.clone();
            async move {
                ProtectedService::new(&upstream, &clock())
                    .authenticate("token")
                    .await;
                // The call is counted in a separate task.
                run_other_tasks().await;
            }
        });
        assert_eq!(upstream.calls(), calls);
        let name = format!("calls_total {outcome}");
        assert_counted(&metrics_by_name, [(&name, 1), ("requests_total miss", 1)]);
    }
}

#[test]
fn counts_every_claim_violation() {
    for (members, rule) in [
        (json!({ "exp": 1 }), "expired"),
        (json!({ "nbf": 4_000_000_000_u64 }), "not_yet_valid"),
        (json!({ "iat": 4_000_000_000_u64 }), "issued_in_the_future"),
        (json!({ "aud": "other" }), "audience"),
        (json!({ "aud": "api", "iss": "other" }), "issuer"),
        (json!({ "token_type": "DPoP" }), "token_type"),
        (json!({ "cnf": {} }), "bound_to_a_key"),
        (json!({ "sub": null, "aud": "api" }), "no_subject"),
    ] {
        let metrics_by_name = record_metrics(async move {
            let upstream = Upstream::responding(MockResponse::from_json(&active_with(&members)));
            let service = ProtectedService::with(&upstream, &clock(), |builder| {
                builder
                    .with_audience("api")
                    .with_issuer("https://auth.example")
            });
            assert_eq!(service.authenticate("token").await, Rejected);
        });
        let name = format!("claim_violations_total {rule}");
        let expected = [
            (&*name, 1),
            ("calls_total active", 1),
            ("requests_total miss", 1),
        ];
        assert_counted(&metrics_by_name, expected);
    }
}

#[test]
fn counts_rejections_and_updates_gauges() {
    let metrics_by_name = record_metrics(async {
        let upstream = Upstream::responding(MockResponse::status(429));
        let service =
            ProtectedService::with(&upstream, &clock(), |builder| builder.with_max_in_flight(1));
        for number in 0..5 {
            assert_eq!(
                service.authenticate(&format!("token-{number}")).await,
                TRANSIENT
            );
        }
        assert_eq!(
            service.authenticate("token").await,
            Unavailable(Kind::BreakerOpen)
        );
        upstream.respond_with(MockResponse::active());
        let other =
            ProtectedService::with(&upstream, &clock(), |builder| builder.with_max_in_flight(1));
        upstream.before_response().close();
        let _running = other.spawn("one");
        upstream.before_response().wait_until_reached().await;
        assert_eq!(
            other.authenticate("two").await,
            Unavailable(Kind::Overloaded)
        );
    });
    assert_eq!(metrics_by_name["requests_total breaker_open"], 1);
    assert_eq!(metrics_by_name["requests_total overloaded"], 1);
    assert_eq!(metrics_by_name["calls_total transient"], 5);
    assert_eq!(metrics_by_name["breaker_open"], 1);
    // The call is still in progress when its runtime ends.
    assert_eq!(metrics_by_name["calls_in_flight"], 1);
}
use tests::time_steps::run_other_tasks;
