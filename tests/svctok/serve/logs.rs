//! The log lines of requests, and the secrets that they must not contain.

use serde_json::Value;

use crate::bootstrap::secret_of;
use crate::http1::HttpRequest;
use crate::node::{Node, NodeProcess};
use crate::store_fixture::StoreFixture;

pub(crate) async fn each_request_logs_one_json_line_without_secrets(fixture: StoreFixture) {
    let flags = ["--log-format", "json", "--log-level", "trace"];
    let (node, administrator) = Node::bootstrap(&fixture, &flags).await;
    let create = HttpRequest::post("/service-tokens?x=y", r#"{"name":"ci"}"#)
        .with("authorization", &format!("Bearer {administrator}"))
        .with("x-request-id", "build-4711");
    let created = node.send(&create).await.assert(201);
    assert_eq!(created.header("x-request-id"), Some("build-4711"));
    let (token, id) = (created.text("/token"), created.text("/service_token/id"));
    let rotate = HttpRequest::post(&format!("/service-tokens/{id}/rotate"), "{}");
    let rotated = node
        .send(&rotate.with_key(&administrator))
        .await
        .assert(200);
    let rotated = rotated.text("/token");

    // A secret in the path, the query, and the request id.
    let misplaced = HttpRequest::get(&format!("/service-tokens/{rotated}?token={rotated}"));
    let misplaced = misplaced
        .with_key(&administrator)
        .with("x-request-id", &rotated);
    let response = node.send(&misplaced).await.assert(404);
    assert_ne!(response.header("x-request-id"), Some(rotated.as_str()));
    node.send(&HttpRequest::form("/introspect", &token).with_key(&rotated))
        .await
        .assert(403);
    node.send(&HttpRequest::form("/introspect", &token).with_key(&administrator))
        .await
        .assert(200);
    node.send(&HttpRequest::get("/verify").with_key(&format!("{rotated}x")))
        .await
        .assert(401);
    node.send(&HttpRequest::form("/revoke", &rotated))
        .await
        .assert(200);

    let output = node.stop().await;
    let lines: Vec<Value> = output
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let lines_of_target = |target: &str| -> Vec<&Value> {
        lines.iter().filter(|it| it["target"] == target).collect()
    };
    let requests = lines_of_target("svctok::request");
    assert_eq!(requests.len(), 7);
    let first = requests[0];
    assert_eq!(first["method"], "POST");
    assert_eq!(first["path"], "/service-tokens");
    assert_eq!(first["status"], 201);
    assert!(first["duration_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(first["span"]["request_id"], "build-4711");
    assert_eq!(requests[2]["path"], "/service-tokens/svctok-***");

    let audits = lines_of_target("tower_service_token::audit");
    let actions: Vec<_> = audits
        .iter()
        .map(|it| it["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["created", "created", "rotated", "revoked"]);
    assert_eq!(audits[1]["token_id"], *id);
    assert_eq!(audits[1]["span"]["request_id"], "build-4711");

    for token in [&administrator, &token, &rotated] {
        assert!(!output.stderr.contains(secret_of(token)));
    }
}

pub(crate) async fn log_format_defaults_to_text(fixture: StoreFixture) {
    let node = Node::start(&fixture, &[]).await;
    let request = HttpRequest::get("/healthz").with("x-request-id", "a");
    node.send(&request).await.assert(200);
    let output = node.stop().await;
    let line = output
        .stderr
        .lines()
        .find(|line| line.contains("svctok::request"));
    let line = line.unwrap_or_else(|| panic!("{}", output.stderr));
    for part in [
        "INFO",
        "request_id=\"a\"",
        "method=\"GET\"",
        "path=\"/healthz\"",
        "status=200",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(
        !output.stderr.contains('\u{1b}'),
        "output to a pipe has colors"
    );
}

pub(crate) async fn invalid_log_filter_is_a_usage_error(fixture: StoreFixture) {
    let output = NodeProcess::start(&fixture, &["--log-level", "svctok=loud"])
        .wait()
        .await;
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.contains("--log-level"), "{output:?}");
}

pub(crate) async fn closed_stderr_does_not_block_requests(fixture: StoreFixture) {
    let mut node = Node::start(&fixture, &[]).await;
    node.close_stderr();
    // The thread that reads stderr ends at the next line, which closes the pipe.
    for _ in 0..5 {
        node.send(&HttpRequest::get("/healthz")).await.assert(200);
    }
    node.stop().await;
}
