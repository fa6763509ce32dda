//! URLs and tokens that are accepted or rejected.

use std::fs;
use std::time::Duration;

use test_support::port::ReservedPort;
use tokio::time::{Instant, sleep};
use tower_service_token::client::{ClientConfigError, ClientErrorKind, ServiceTokensClient};
use tower_service_token::lifecycle::{NewToken, Page};
use tower_service_token::registry::TokenFilter;

use super::faulty_server::FaultyServer;
use super::{TOKEN, TestServer};

fn build(url: &str) -> Result<ServiceTokensClient, ClientConfigError> {
    ServiceTokensClient::builder(url).with_token(TOKEN).build()
}

#[test]
fn allows_http_only_to_loopback_by_default() {
    for url in [
        "http://127.0.0.1:8080",
        "http://localhost/a",
        "http://[::1]",
    ] {
        assert!(build(url).is_ok(), "{url}");
    }
    let https = build("https://tokens.example/a/");
    assert_eq!(https.is_ok(), cfg!(feature = "rustls"));
    let remote_url = "http://tokens.example";
    let error = build(remote_url).unwrap_err();
    assert!(matches!(error, ClientConfigError::Insecure));
    let builder = ServiceTokensClient::builder(remote_url).with_token(TOKEN);
    assert!(builder.dangerous_allow_http().build().is_ok());
}

#[test]
fn rejects_invalid_urls() {
    for (url, name) in [
        ("", "InvalidUrl"),
        ("tokens.example", "InvalidUrl"),
        ("ftp://tokens.example", "InvalidUrl"),
        ("https://me:hush@tokens.example", "UserInfo"),
        ("https://tokens.example/?key=hush", "Query"),
        ("https://tokens.example/#hush", "Fragment"),
    ] {
        let error = build(url).unwrap_err();
        assert_eq!(format!("{error:?}"), name, "{url}");
        assert!(!error.to_string().contains("hush"));
    }
}

#[test]
fn rejects_missing_and_malformed_tokens() {
    let builder = || ServiceTokensClient::builder("http://127.0.0.1");
    let error = builder().build().unwrap_err();
    assert!(matches!(error, ClientConfigError::NoToken));
    for builder in [
        builder().with_token(""),
        builder().with_token("hush hush"),
        builder().with_token_env("SVCTOK_TESTS_HAVE_NO_SUCH_VARIABLE"),
        builder().with_token_file("/nonexistent/hush"),
    ] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error, ClientConfigError::Token(_)), "{error}");
    }
    // The last token wins.
    assert!(builder().with_token("").with_token(TOKEN).build().is_ok());
    let line = format!("{TOKEN}\n");
    assert!(builder().with_token(&line).build().is_ok());
}

#[tokio::test]
async fn sends_calls_below_the_path_of_the_url() {
    let server = TestServer::new().await;
    let faulty_server = FaultyServer::start(server.app.clone(), []).await;
    let id = server.admin.record().id();
    for path in ["/tokens", "/tokens/"] {
        let url = format!("http://{}{path}", faulty_server.address);
        let client = ServiceTokensClient::builder(url);
        let client = client.with_token(server.admin.expose_secret());
        let client = client.build().unwrap();
        client.get_own().await.unwrap();
        client.get(id).await.unwrap();
        client
            .list(TokenFilter::new(), Page::default())
            .await
            .unwrap();
    }
    let once = [
        "GET /tokens/service-tokens/self".to_owned(),
        format!("GET /tokens/service-tokens/{id}"),
        "GET /tokens/service-tokens?limit=50".to_owned(),
    ];
    assert_eq!(faulty_server.lines(), [once.clone(), once].concat());
    // A wrong path is not reported as a missing token.
    let client = ServiceTokensClient::builder(format!("http://{}", faulty_server.address));
    let client = client.with_token(server.admin.expose_secret());
    let error = client.build().unwrap().get(id).await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::UnexpectedResponse);
    assert_eq!(error.status().unwrap(), 404);
}

#[tokio::test]
async fn missing_servers_are_unreachable() {
    let port = ReservedPort::new();
    let url = format!("http://{}", port.address());
    let client = ServiceTokensClient::builder(url).with_token(TOKEN);
    let client = client.with_max_retries(1).build().unwrap();
    let error = client.create(NewToken::new("ci")).await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::Unreachable);
    assert!(std::error::Error::source(&error).is_some());
    assert_eq!((error.status(), error.code()), (None, None));
}

#[tokio::test]
async fn reloads_rotated_token_files() {
    let server = TestServer::new().await;
    let name = format!("svctok-client-token-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    fs::write(&path, server.admin.expose_secret()).unwrap();
    let faulty_server = FaultyServer::start(server.app.clone(), []).await;
    let builder = server.builder(faulty_server.address).with_token_file(&path);
    let client = builder.build().unwrap();
    let id = client.get_own().await.unwrap().id;
    let rotated = client.rotate_own(Duration::ZERO).await.unwrap();
    let error = client.get_own().await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::Unauthenticated);
    fs::write(&path, rotated.expose_secret()).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while client.get_own().await.is_err() {
        assert!(Instant::now() < end, "the new token is not used");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(client.get_own().await.unwrap().id, id);
    fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn calls_are_send_and_clients_shareable() {
    let server = TestServer::new().await;
    let client = server.client().await;
    let calls = (0..8).map(|index| {
        let client = client.clone();
        tokio::spawn(async move {
            let issued = client.create(NewToken::new(format!("ci-{index}"))).await?;
            client.revoke(issued.token().id).await
        })
    });
    for call in futures::future::join_all(calls).await {
        call.unwrap().unwrap();
    }
}
