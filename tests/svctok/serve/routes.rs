//! The routes, and the credentials that they require.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower_service_token::digest::TokenDigest;
use tower_service_token::token::TokenFormat;

use crate::http1::HttpRequest;
use crate::node::{Node, NodeProcess};
use crate::store_fixture::StoreFixture;

/// Returns one request for each route group, with the status for an authorized caller.
fn protected_requests(token: &str) -> Vec<(HttpRequest, u16)> {
    vec![
        (HttpRequest::get("/service-tokens"), 200),
        (HttpRequest::get("/service-tokens/self"), 200),
        (HttpRequest::form("/introspect", token), 200),
        (HttpRequest::get("/verify"), 200),
        (HttpRequest::get("/verify?scope=introspect"), 200),
        (HttpRequest::get("/api/server/info"), 200),
        (HttpRequest::get("/api/security/tokens"), 200),
        (HttpRequest::get("/api/v1/service-account-tokens"), 200),
        (HttpRequest::get("/workspace"), 200),
    ]
}

/// hyper removes the body of a response to HEAD only over HTTP/1.1.
pub(crate) async fn head_has_no_body_over_http2(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &["--verify-prefix", "deploy?role=none"]).await;
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Empty<Bytes>>();
    for path in [
        "/verify",
        "/verify?role=none",
        "/verify?none",
        "/verify/deploy/a",
        "/service-tokens",
        "/api/security/tokens",
        "/workspace",
        "/healthz",
        "/none",
    ] {
        for token in ["", &token] {
            let request = Request::head(format!("http://{}{path}", node.address))
                .header("x-api-key", token)
                .body(Empty::new())
                .unwrap();
            let response = client.request(request).await.unwrap();
            assert!(response.headers().contains_key("x-request-id"), "{path}");
            let body = response.into_body().collect().await;
            let body = body.unwrap_or_else(|error| panic!("{path}: {error:?}"));
            assert_eq!(body.to_bytes(), "", "{path}");
        }
    }
}

pub(crate) async fn every_route_group_accepts_every_scheme(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    for (request, status) in protected_requests(&token) {
        for (name, scheme) in [
            ("Authorization", "ApiKey "),
            ("Authorization", "Bearer "),
            ("X-API-Key", ""),
        ] {
            let request = request.clone().with(name, &format!("{scheme}{token}"));
            node.send(&request).await.assert(status);
        }
    }
    node.stop().await;
}

pub(crate) async fn every_route_group_rejects_missing_tokens(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    let unknown = TokenFormat::default().mint().unwrap();
    for (request, _) in protected_requests(&token) {
        node.send(&request).await.assert(401);
        let grpc = request.clone().with("Content-Type", "application/grpc");
        let response = node.send(&grpc).await.assert(401);
        assert_eq!(response.header("grpc-status"), None);
        let unknown = request.with_key(unknown.expose_secret());
        node.send(&unknown).await.assert(401);
    }
    node.stop().await;
}

pub(crate) async fn unknown_paths_have_errors_of_their_dialect(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    for path in ["/api", "/api/", "/api/x"] {
        let call = HttpRequest::get(path).with_key(&token);
        let response = node.send(&call).await.assert(404);
        assert_eq!(response.json()["_type"], "NotFoundError", "{path}");
    }
    for path in [
        "/api/v1",
        "/api/v1/",
        "/api/v1/x",
        "/workspace/",
        "/workspace/x",
    ] {
        let call = HttpRequest::get(path).with_key(&token);
        let response = node.send(&call).await.assert(404);
        assert_eq!(response.json()["status"], "error", "{path}");
    }
    node.stop().await;
}

pub(crate) async fn health_and_metrics_need_no_token(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        node.send(&HttpRequest::get(path)).await.assert(200);
    }
    let verify = HttpRequest::get("/verify").with_key(&token);
    node.send(&verify).await.assert(200);
    node.send(&HttpRequest::get("/verify")).await.assert(401);

    let metrics = node.send(&HttpRequest::get("/metrics")).await.assert(200);
    let content_type = metrics.header("content-type").unwrap();
    assert!(content_type.starts_with("text/plain"), "{content_type}");
    for line in [
        r#"service_token_requests_total{outcome="accepted"} 1"#,
        r#"service_token_requests_total{outcome="missing_token"} 1"#,
        r#"svctok_http_requests_total{method="GET",status="200"} 4"#,
        r#"svctok_http_request_seconds_count{method="GET"} 5"#,
        "# TYPE service_token_lookup_seconds histogram",
    ] {
        assert!(
            metrics.body.lines().any(|it| it == line),
            "{line}: {}",
            metrics.body
        );
    }
    node.stop().await;
}

pub(crate) async fn verify_status_and_prefixes_are_configurable(fixture: StoreFixture) {
    let flags = [
        "--verify-no-content",
        "--verify-prefix",
        "admin?scope=introspect deploy?role=deployer,ops",
        "--verify-prefix",
        "any",
    ];
    let (node, token) = Node::bootstrap(&fixture, &flags).await;
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"] {
        for (target, status) in [
            ("/verify", 204),
            ("/verify?scope=introspect", 204),
            ("/verify?x=y", 400),
            ("/verify/admin", 204),
            ("/verify/admin/x/../any?role=a&x=y", 204),
            ("/verify/deploy/any?role=a", 403),
            ("/verify/any/", 204),
            ("/verify/other/x", 404),
            // A comma is not a separator: it neither ends a requirement nor starts another prefix.
            ("/verify/ops/x", 404),
        ] {
            let request = HttpRequest::new(method, target);
            let response = node.send(&request.clone().with_key(&token)).await;
            assert_eq!(response.status, status, "{method} {target}");
            let unauthenticated = if status == 404 || status == 400 {
                status
            } else {
                401
            };
            assert_eq!(
                node.send(&request).await.status,
                unauthenticated,
                "{method} {target}"
            );
        }
    }
    node.stop().await;
    for value in ["a/b", "?role=x", "deploy?roles=x", "deploy?role="] {
        let output = NodeProcess::start(&fixture, &["--verify-prefix", value])
            .wait()
            .await;
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.stderr.contains("--verify-prefix"), "{output:?}");
    }
}

pub(crate) async fn metrics_can_have_their_own_listener_or_be_disabled(fixture: StoreFixture) {
    let mut separate = Node::start(&fixture, &["--metrics-listen", "127.0.0.1:0"]).await;
    let line = separate.wait_for_log("metrics on http://").await;
    let address = line.rsplit("//").next().unwrap().trim().parse().unwrap();
    HttpRequest::get("/metrics").send(address).await.assert(200);
    HttpRequest::get("/readyz").send(address).await.assert(200);
    HttpRequest::get("/verify").send(address).await.assert(404);
    separate
        .send(&HttpRequest::get("/metrics"))
        .await
        .assert(404);
    separate.stop().await;

    let disabled = Node::start(&fixture, &["--metrics-listen", "off"]).await;
    disabled
        .send(&HttpRequest::get("/metrics"))
        .await
        .assert(404);
    disabled.stop().await;
}

pub(crate) async fn file_store_serves_only_reads(fixture: StoreFixture) {
    let token = TokenFormat::default().mint().unwrap();
    let token = token.expose_secret();
    let digest = TokenDigest::of(token);
    let text =
        format!("[[tokens]]\nname = \"ci\"\ndigest = \"{digest}\"\nscopes = [\"introspect\"]\n");
    let file = fixture.file("tokens.toml", Some(&text));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let store = format!("file:{file}");
    let mut command = NodeProcess::command();
    command.args(["--store", &store, "--listen", "127.0.0.1:0"]);
    let node = NodeProcess::spawn(&mut command, Stdio::piped())
        .wait_until_listening()
        .await;

    let introspect = HttpRequest::form("/introspect", token).with_key(token);
    let response = node.send(&introspect).await.assert(200);
    assert_eq!(response.json()["active"], true);
    let verify = HttpRequest::get("/verify").with_key(token);
    node.send(&verify).await.assert(200);
    for path in ["/healthz", "/readyz", "/metrics"] {
        node.send(&HttpRequest::get(path)).await.assert(200);
    }
    for request in [
        HttpRequest::get("/service-tokens"),
        HttpRequest::form("/revoke", token),
        HttpRequest::get("/api/server/info"),
        HttpRequest::get("/workspace"),
    ] {
        node.send(&request.with_key(token)).await.assert(404);
    }
    node.send(&verify).await.assert(200);
    let output = node.stop().await;
    assert_eq!(output.stdout, "");
    assert!(
        output
            .stderr
            .contains("a file: store is read-only: /service-tokens, /revoke")
    );
}

pub(crate) async fn default_store_is_created_in_the_data_directory(fixture: StoreFixture) {
    let start = || {
        let mut command = NodeProcess::command();
        command.args(["--listen", "127.0.0.1:0"]);
        // An empty variable counts as unset.
        command.env("SVCTOK_STORE", "");
        command.env("XDG_DATA_HOME", fixture.folder.join("data"));
        NodeProcess::spawn(&mut command, Stdio::piped()).wait_until_listening()
    };
    let mut node = start().await;
    let token = node.bootstrap_token().await;
    node.stop().await;
    for (path, mode) in [
        ("data", 0o700),
        ("data/svctok", 0o700),
        ("data/svctok/tokens.db", 0o600),
    ] {
        let found = fs::metadata(fixture.folder.join(path)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode, "{path}");
    }
    let restarted = start().await;
    let verify = HttpRequest::get("/verify").with_key(&token);
    restarted.send(&verify).await.assert(200);
    assert_eq!(restarted.stop().await.stdout, "");
}

pub(crate) async fn environment_variables_replace_missing_flags(fixture: StoreFixture) {
    let mut command = NodeProcess::command();
    command.env("SVCTOK_STORE", &fixture.store);
    command.env("SVCTOK_LISTEN", "0.0.0.0:0");
    command.env("SVCTOK_INSECURE_PLAIN_HTTP", "1");
    command.env("SVCTOK_LOG_FORMAT", "json");
    command.env("SVCTOK_METRICS_LISTEN", "off");
    let mut node = NodeProcess::spawn(&mut command, Stdio::piped())
        .wait_until_listening()
        .await;
    let token = node.bootstrap_token().await;
    node.address.set_ip([127, 0, 0, 1].into());
    node.send(&HttpRequest::get("/verify").with_key(&token))
        .await
        .assert(200);
    node.send(&HttpRequest::get("/metrics")).await.assert(404);
    let line = node.wait_for_log("\"listening on http://0.0.0.0:").await;
    assert!(line.starts_with('{'), "{line}");
    node.stop().await;
}

pub(crate) async fn serve_rejects_client_flags(fixture: StoreFixture) {
    for flag in ["--url", "--context"] {
        let output = NodeProcess::start(&fixture, &[flag, "https://tokens.test"])
            .wait()
            .await;
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(
            output.stderr.contains("omit --url and --context"),
            "{output:?}"
        );
    }
}
