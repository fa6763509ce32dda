//! Logs and metrics of the endpoints never contain a token.
#![cfg(all(feature = "tracing", feature = "metrics"))]

use std::fmt::Write as _;

use axum::body::Body;
use base64::Engine;
use futures::executor::block_on;
use http::Request;
use metrics_util::debugging::DebuggingRecorder;
use tests::log::Log;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::testing::Fault;

use crate::endpoints::server::{DAMAGED, FORM, Server, UNKNOWN, form};

/// Runs `body` and returns its log and its metrics as text.
fn captured(body: impl FnOnce()) -> String {
    let log = Log::default();
    let guard = log.start();
    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, body);
    drop(guard);
    let mut text = log.text();
    for (key, ..) in recorder.snapshotter().snapshot().into_vec() {
        let labels = key.key().labels();
        let labels: Vec<_> = labels
            .map(|it| format!("{}={}", it.key(), it.value()))
            .collect();
        writeln!(text, "{} {}", key.key().name(), labels.join(" ")).unwrap();
    }
    text
}

async fn call_every_endpoint(server: &Server, tokens: &[String], base64: &str) {
    for token in tokens {
        let _ = server.introspect(token).await;
        let _ = server.verify("?role=admin", token).await;
        let _ = server.verify("?roles=admin", token).await;
        for value in [
            format!("Bearer {token}"),
            format!("Basic {base64}"),
            "Basic %".to_owned(),
        ] {
            let request = Request::post("/introspect")
                .header("authorization", value)
                .header("content-type", FORM);
            let _ = server
                .send(request.body(form(&[("token", token)])).unwrap())
                .await;
        }
        let _ = server.revoke(token).await;
        let body = Body::from(format!("token={token}&token={token}"));
        let request = Request::post("/revoke").header("content-type", FORM);
        let _ = server.send(request.body(body).unwrap()).await;
    }
}

#[test]
fn endpoints_do_not_leak_tokens() {
    let (server, store) = block_on(Server::with_faulty_store());
    let good = block_on(server.create(NewToken::new("ci").with_roles(["admin"])));
    let caller = server.caller.expose_secret().to_owned();
    let tokens = [good.expose_secret(), UNKNOWN, DAMAGED].map(str::to_owned);
    let pair = format!("{}:{caller}", server.caller.record().id());
    let base64 = base64::engine::general_purpose::STANDARD.encode(pair);
    let text = captured(|| {
        block_on(call_every_endpoint(&server, &tokens, &base64));
        store.inject(Fault::Error);
        block_on(call_every_endpoint(&server, &tokens, &base64));
    });
    for token in tokens.iter().chain([&caller]) {
        for part in 18..token.len() - 8 {
            assert!(!text.contains(&token[part..part + 8]), "{text}");
        }
    }
    assert!(!text.contains(&base64[20..40]), "{text}");
    // The capture contains the expected events and counters, so it is not empty by mistake.
    for expected in [
        "service_token_endpoint_responses_total endpoint=introspect outcome=active",
        "service_token_endpoint_responses_total endpoint=introspect outcome=inactive",
        "service_token_endpoint_responses_total endpoint=revoke outcome=revoked",
        "service_token_endpoint_responses_total endpoint=revoke outcome=unknown",
        "service_token_endpoint_responses_total endpoint=revoke outcome=change_failed",
        "service_token_endpoint_responses_total endpoint=verify outcome=invalid_query",
        "service_token_requests_total outcome=accepted",
        "service_token_requests_total outcome=malformed_header",
        "service_token_requests_total outcome=store_unavailable",
        "service_token_guard_rejections_total reason=insufficient_scope",
        "reason=\"store_unavailable\"",
        "forward-auth query is invalid",
    ] {
        assert!(text.contains(expected), "no {expected} in\n{text}");
    }
}

/// Proves that the capture detects a token that a handler logs.
#[test]
fn detects_planted_leaks() {
    let text = captured(|| tracing::info!(token = UNKNOWN, "planted"));
    assert!(text.contains(&UNKNOWN[18..26]), "{text}");
}
