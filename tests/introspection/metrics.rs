//! Each request and each call is counted under one outcome.

use std::collections::BTreeMap;

use futures::future::join_all;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use serde_json::json;

use crate::protected_service::{
    Accepted, Kind, ProtectedService, Refused, SECOND, TRANSIENT, Unavailable, clock, settle,
};
use crate::upstream::{Answer, Upstream, active_with};

const PREFIX: &str = "service_token_introspection_";

/// Returns the metrics of this store after `run`, by name and outcome.
fn record_metrics(run: impl Future<Output = ()>) -> BTreeMap<String, i64> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(run));
    let mut counted = BTreeMap::new();
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
        counted.insert(name.trim_end().to_owned(), value);
    }
    counted
}

#[track_caller]
fn assert_counted<const N: usize>(counted: &BTreeMap<String, i64>, expected: [(&str, i64); N]) {
    let mut counted: Vec<_> = counted
        .iter()
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    // A gauge that is zero again may or may not be listed.
    counted.retain(|(name, count)| name.contains("_total") || *count != 0);
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(counted, expected);
}

#[test]
fn counts_every_request_outcome() {
    let counted = record_metrics(async {
        let clock = clock();
        let upstream = Upstream::new(|call| match call.token() {
            "good" => Answer::active(),
            _ => Answer::inactive(),
        });
        let service = ProtectedService::with(&upstream, &clock, |builder| {
            builder.with_stale_if_error(60 * SECOND)
        });
        for _ in 0..3 {
            assert_eq!(service.authenticate("good").await, Accepted);
            assert_eq!(service.authenticate("junk").await, Refused);
        }
        assert_eq!(service.authenticate("no=b64token").await, Refused);
        service.store.clear();
        assert_eq!(
            join_all([service.authenticate("good"), service.authenticate("good")]).await,
            [Accepted; 2]
        );
        clock.advance(10 * SECOND);
        upstream.respond_with(Answer::status(500));
        assert!(service.principal("good").await.is_stale());
    });
    assert_counted(
        &counted,
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
    for (answer, outcome, calls) in [
        (Answer::active(), "active", 1),
        (Answer::inactive(), "inactive", 1),
        (
            Answer::error(400, "unsupported_token_type"),
            "unsupported_token",
            1,
        ),
        (Answer::status(400), "protocol", 1),
        (Answer::json("{"), "protocol", 1),
        (Answer::status(401), "credentials", 1),
        (Answer::status(500), "transient", 1),
        (Answer::status(503), "transient", 2),
        (Answer::Hang, "timed_out", 1),
        (Answer::Panic, "lost", 1),
    ] {
        let upstream = Upstream::responding(answer);
        let counted = record_metrics({
            let upstream = upstream.clone();
            async move {
                ProtectedService::new(&upstream, &clock())
                    .authenticate("token")
                    .await;
                // The call ends in its own task.
                settle().await;
            }
        });
        assert_eq!(upstream.calls(), calls);
        let name = format!("calls_total {outcome}");
        assert_counted(&counted, [(&name, 1), ("requests_total miss", 1)]);
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
        let counted = record_metrics(async move {
            let upstream = Upstream::responding(Answer::of(&active_with(&members)));
            let service = ProtectedService::with(&upstream, &clock(), |builder| {
                builder
                    .with_audience("api")
                    .with_issuer("https://auth.example")
            });
            assert_eq!(service.authenticate("token").await, Refused);
        });
        let name = format!("claim_violations_total {rule}");
        let expected = [
            (&*name, 1),
            ("calls_total active", 1),
            ("requests_total miss", 1),
        ];
        assert_counted(&counted, expected);
    }
}

#[test]
fn counts_rejections_and_updates_gauges() {
    let counted = record_metrics(async {
        let upstream = Upstream::responding(Answer::status(429));
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
        upstream.respond_with(Answer::active());
        let other =
            ProtectedService::with(&upstream, &clock(), |builder| builder.with_max_in_flight(1));
        upstream.answered().close();
        let _running = other.spawn("one");
        upstream.answered().wait_until_reached().await;
        assert_eq!(
            other.authenticate("two").await,
            Unavailable(Kind::Overloaded)
        );
    });
    assert_eq!(counted["requests_total breaker_open"], 1);
    assert_eq!(counted["requests_total overloaded"], 1);
    assert_eq!(counted["calls_total transient"], 5);
    assert_eq!(counted["breaker_open"], 1);
    // The call is still in progress when its runtime ends.
    assert_eq!(counted["calls_in_flight"], 1);
}
