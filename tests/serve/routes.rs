//! What is served, and to whom.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use tower_service_token::digest::TokenDigest;
use tower_service_token::token::TokenFormat;

use crate::node::{Node, Running};
use crate::place::Place;
use crate::wire::Call;

/// A call of each group of routes, and its answer to who may.
fn guarded(token: &str) -> Vec<(Call, u16)> {
    vec![
        (Call::get("/service-tokens"), 200),
        (Call::get("/service-tokens/self"), 200),
        (Call::form("/introspect", token), 200),
        (Call::get("/verify"), 204),
        (Call::get("/verify?scope=introspect"), 204),
        (Call::get("/api/server/info"), 200),
        (Call::get("/api/security/tokens"), 200),
        (Call::get("/api/v1/service-account-tokens"), 200),
        (Call::get("/workspace"), 200),
    ]
}

pub(crate) async fn each_group_takes_each_credential(place: Place) {
    let (node, token) = Node::administrator(&place, &[]).await;
    for (call, status) in guarded(&token) {
        for (name, scheme) in [
            ("Authorization", "ApiKey "),
            ("Authorization", "Bearer "),
            ("X-API-Key", ""),
        ] {
            let call = call.clone().with(name, &format!("{scheme}{token}"));
            node.send(&call).await.assert(status);
        }
    }
    node.stop().await;
}

pub(crate) async fn each_group_refuses_who_has_none(place: Place) {
    let (node, token) = Node::administrator(&place, &[]).await;
    let unknown = TokenFormat::default().mint().unwrap();
    for (call, _) in guarded(&token) {
        node.send(&call).await.assert(401);
        let unknown = call.with_key(unknown.expose_secret());
        node.send(&unknown).await.assert(401);
    }
    node.stop().await;
}

pub(crate) async fn health_and_metrics_need_no_token(place: Place) {
    let (node, token) = Node::administrator(&place, &[]).await;
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        node.send(&Call::get(path)).await.assert(200);
    }
    let verify = Call::get("/verify").with_key(&token);
    node.send(&verify).await.assert(204);
    node.send(&Call::get("/verify")).await.assert(401);

    let metrics = node.send(&Call::get("/metrics")).await.assert(200);
    let content_type = metrics.header("content-type").unwrap();
    assert!(content_type.starts_with("text/plain"), "{content_type}");
    for line in [
        r#"service_token_requests_total{outcome="accepted"} 1"#,
        r#"service_token_requests_total{outcome="missing_token"} 1"#,
        r#"svctok_http_requests_total{method="GET",status="204"} 1"#,
        r#"svctok_http_request_seconds_count{method="GET"} 5"#,
        "# TYPE service_token_check_seconds histogram",
    ] {
        assert!(
            metrics.body.lines().any(|it| it == line),
            "{line}: {}",
            metrics.body
        );
    }
    node.stop().await;
}

pub(crate) async fn metrics_can_have_an_address_of_their_own_or_none(place: Place) {
    let mut apart = Node::start(&place, &["--metrics-listen", "127.0.0.1:0"]).await;
    let line = apart.logged("metrics on http://").await;
    let address = line.rsplit("//").next().unwrap().trim().parse().unwrap();
    Call::get("/metrics").send(address).await.assert(200);
    Call::get("/readyz").send(address).await.assert(200);
    Call::get("/verify").send(address).await.assert(404);
    apart.send(&Call::get("/metrics")).await.assert(404);
    apart.stop().await;

    let off = Node::start(&place, &["--metrics-listen", "off"]).await;
    off.send(&Call::get("/metrics")).await.assert(404);
    off.stop().await;
}

pub(crate) async fn a_file_is_asked_and_not_changed(place: Place) {
    let token = TokenFormat::default().mint().unwrap();
    let token = token.expose_secret();
    let digest = TokenDigest::of(token);
    let text =
        format!("[[tokens]]\nname = \"ci\"\ndigest = \"{digest}\"\nscopes = [\"introspect\"]\n");
    let file = place.file("tokens.toml", Some(&text));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let store = format!("file:{file}");
    let mut command = Running::command();
    command.args(["--store", &store, "--listen", "127.0.0.1:0"]);
    let node = Running::spawn(&mut command, Stdio::piped())
        .listening()
        .await;

    let introspect = Call::form("/introspect", token).with_key(token);
    let answer = node.send(&introspect).await.assert(200);
    assert_eq!(answer.json()["active"], true);
    let verify = Call::get("/verify").with_key(token);
    node.send(&verify).await.assert(204);
    for path in ["/healthz", "/readyz", "/metrics"] {
        node.send(&Call::get(path)).await.assert(200);
    }
    for call in [
        Call::get("/service-tokens"),
        Call::form("/revoke", token),
        Call::get("/api/server/info"),
        Call::get("/workspace"),
    ] {
        node.send(&call.with_key(token)).await.assert(404);
    }
    node.send(&verify).await.assert(204);
    let ended = node.stop().await;
    assert_eq!(ended.stdout, "");
    assert!(
        ended
            .stderr
            .contains("a file: store is read-only: /service-tokens, /revoke")
    );
}

pub(crate) async fn without_a_store_one_is_made_in_the_data_directory(place: Place) {
    let start = || {
        let mut command = Running::command();
        command.args(["--listen", "127.0.0.1:0"]);
        // As good as none.
        command.env("SVCTOK_STORE", "");
        command.env("XDG_DATA_HOME", place.folder.join("data"));
        Running::spawn(&mut command, Stdio::piped()).listening()
    };
    let mut node = start().await;
    let token = node.bootstrap_token().await;
    node.stop().await;
    for (path, mode) in [
        ("data", 0o700),
        ("data/svctok", 0o700),
        ("data/svctok/tokens.db", 0o600),
    ] {
        let found = fs::metadata(place.folder.join(path)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode, "{path}");
    }
    let again = start().await;
    let verify = Call::get("/verify").with_key(&token);
    again.send(&verify).await.assert(204);
    assert_eq!(again.stop().await.stdout, "");
}

pub(crate) async fn the_environment_says_what_no_flag_does(place: Place) {
    let mut command = Running::command();
    command.env("SVCTOK_STORE", &place.store);
    command.env("SVCTOK_LISTEN", "0.0.0.0:0");
    command.env("SVCTOK_INSECURE_PLAIN_HTTP", "1");
    command.env("SVCTOK_LOG_FORMAT", "json");
    command.env("SVCTOK_METRICS_LISTEN", "off");
    let mut node = Running::spawn(&mut command, Stdio::piped())
        .listening()
        .await;
    let token = node.bootstrap_token().await;
    node.address.set_ip([127, 0, 0, 1].into());
    node.send(&Call::get("/verify").with_key(&token))
        .await
        .assert(204);
    node.send(&Call::get("/metrics")).await.assert(404);
    let line = node.logged("\"listening on http://0.0.0.0:").await;
    assert!(line.starts_with('{'), "{line}");
    node.stop().await;
}

pub(crate) async fn what_names_a_server_is_not_for_a_server(place: Place) {
    for flag in ["--url", "--context"] {
        let ended = Running::start(&place, &[flag, "https://tokens.test"])
            .ended()
            .await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(
            ended.stderr.contains("leave out --url and --context"),
            "{ended:?}"
        );
    }
}
