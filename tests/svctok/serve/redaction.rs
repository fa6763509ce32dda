//! Tokens in paths, queries, headers and fields, which the log and the audit trail must hide.

use serde_json::{Value, json};
use tower_service_token::token::TokenFormat;

use crate::http1::HttpRequest;
use crate::node::Node;
use crate::store_fixture::StoreFixture;

/// Returns tokens that are in no store: one for each prefix, complete and truncated.
fn stray_tokens() -> Vec<String> {
    let mut tokens = Vec::new();
    for prefix in ["svctok-", "acme_", "a-b-c_d-"] {
        let minted = TokenFormat::new(prefix).unwrap().mint().unwrap();
        let token = minted.expose_secret();
        tokens.push(token.to_owned());
        // The prefix, the ID and half of the secret, which is shorter than the segments of some routes.
        tokens.push(token[..prefix.len() + 11 + 16].to_owned());
    }
    tokens
}

/// Returns the first characters of the secret of a token.
fn secret_of(token: &str) -> &str {
    let (_, secret) = token.rsplit_once('_').unwrap();
    &secret[..8]
}

fn requests(token: &str) -> Vec<HttpRequest> {
    let create = |field: &str, value: Value| {
        HttpRequest::post(
            "/service-tokens",
            &json!({"name": "ci", field: value}).to_string(),
        )
    };
    vec![
        HttpRequest::get(&format!("/{token}")),
        HttpRequest::get(&format!("/service-tokens/{token}")),
        HttpRequest::get(&format!("/service-tokens/x-{token}.json")),
        HttpRequest::get(&format!("/service-tokens/{token}/rotate?again")),
        HttpRequest::get(&format!("/api/security/tokens/{token}")),
        HttpRequest::get(&format!("/service-tokens?name={token}&cursor={token}")),
        HttpRequest::get(&format!("/verify?role={token}")),
        HttpRequest::get(&format!("/{token}?{token}={token}")),
        HttpRequest::get("/healthz").with("x-request-id", token),
        HttpRequest::get("/service-tokens").with("x-request-id", &format!("build;{token}")),
        HttpRequest::get("/nowhere")
            .with("user-agent", token)
            .with("referer", token),
        create("name", json!(format!("the token {token} by mistake"))),
        create("description", json!(token)),
        create("subject", json!(token)),
        create("roles", json!([token])),
        create("scopes", json!([token])),
        create("labels", json!({"token": token})),
        create(token, json!(1)),
    ]
}

pub(crate) async fn log_and_audit_hide_stray_tokens(fixture: StoreFixture) {
    let tokens = stray_tokens();
    for format in ["json", "text"] {
        let flags = ["--log-format", format, "--log-level", "trace"];
        let (node, administrator) = Node::bootstrap(&fixture, &flags).await;
        for token in &tokens {
            for request in requests(token) {
                let response = node.send(&request.with_key(&administrator)).await;
                let id = response.header("x-request-id").unwrap();
                assert!(!id.contains(secret_of(token)), "{id}");
            }
        }
        let log = node.stop().await.stderr;
        assert!(
            log.contains("the token ") && log.contains(" by mistake"),
            "{log}"
        );
        for token in &tokens {
            let line = log.lines().find(|line| line.contains(secret_of(token)));
            assert_eq!(line, None, "{token}");
        }
        if format == "json" {
            for line in log.lines() {
                serde_json::from_str::<Value>(line).unwrap();
            }
        }
        let events = crate::audit::trail(&fixture).await;
        let trail = format!("{events:?}");
        assert!(trail.contains(" by mistake"), "{trail}");
        for token in &tokens {
            assert!(!trail.contains(secret_of(token)), "{token}: {trail}");
        }
        std::fs::remove_file(crate::lost_store::database(&fixture)).unwrap();
        let _ = std::fs::remove_file(fixture.folder.join("tokens.db.initialized"));
    }
}

pub(crate) async fn log_shows_ids_routes_and_request_ids(fixture: StoreFixture) {
    let (node, administrator) = Node::bootstrap(&fixture, &["--log-format", "json"]).await;
    let create = HttpRequest::post("/service-tokens", r#"{"name":"internationalization_team"}"#);
    let created = node
        .send(&create.with_key(&administrator))
        .await
        .assert(201);
    let id = created.text("/service_token/id");
    let hint = created.text("/service_token/hint");
    let path = format!("/service-tokens/{id}");
    let request_id = "build_0af7651916cd43dd8448eb211c80319c";
    let get = HttpRequest::get(&path).with("x-request-id", request_id);
    let got = node.send(&get.with_key(&administrator)).await.assert(200);
    assert_eq!(got.header("x-request-id"), Some(request_id));
    let not_found = HttpRequest::get(&format!("/hints/{hint}")).with_key(&administrator);
    node.send(&not_found).await.assert(404);
    let log = node.stop().await.stderr;
    for part in [
        path.as_str(),
        request_id,
        &hint,
        "internationalization_team",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

/// A secret without its ID, and tokens with a `/` or an encoded character in the secret.
pub(crate) async fn log_hides_bare_and_split_tokens(fixture: StoreFixture) {
    let minted = TokenFormat::new("acme_").unwrap().mint().unwrap();
    let token = minted.expose_secret();
    let (id, secret) = token.rsplit_once('_').unwrap();
    // Almost every secret has all three kinds of characters.
    let secret = if secret.contains(|char: char| char.is_ascii_digit()) {
        secret.to_owned()
    } else {
        format!("{}7", &secret[1..])
    };
    let (left, right) = secret.split_at(8);
    let texts = [
        secret.clone(),
        format!("_{secret}"),
        format!("{id}_{left}/{right}"),
        format!("{id}_/{secret}"),
        format!("{id}_{left}%E2%80%8D{right}"),
        format!("{id}_{left}%2F{right}"),
        format!("{id}_{left}//{right}"),
        format!("{id}_{left}/./{right}"),
        format!("{id}_{left}%252F{right}"),
    ];
    let (node, administrator) = Node::bootstrap(&fixture, &["--log-format", "json"]).await;
    for text in &texts {
        let path = format!("/service-tokens/{text}/rotate");
        node.send(&HttpRequest::get(&path).with_key(&administrator))
            .await;
        let named = json!({"name": "x", "description": format!("by mistake {text}")});
        let create = HttpRequest::post("/service-tokens", &named.to_string());
        node.send(&create.with_key(&administrator))
            .await
            .assert(201);
    }
    let joined = json!({"name": format!("{id}_{left}\u{200d}{right}")});
    let create = HttpRequest::post("/service-tokens", &joined.to_string());
    // A joiner between ASCII characters joins nothing.
    node.send(&create.with_key(&administrator))
        .await
        .assert(422);
    let log = node.stop().await.stderr;
    for part in [left, right] {
        let line = log.lines().find(|line| line.contains(part));
        assert_eq!(line, None, "{part}");
    }
}
