//! Discovery of the introspection endpoint from the metadata of the server.

use std::sync::Arc;
use std::time::Duration;

use test_support::authorization_server::clients::{API, basic, es256, rs256};
use test_support::authorization_server::deployment::Deployment;
use test_support::authorization_server::server::AuthorizationServer;
use test_support::stall::Stopwatch;
use tower_service_token::introspection::{ClientAuth, DiscoveryErrorKind, IntrospectionStore};

use crate::SLACK;
use crate::protected_service::ProtectedService;

const OAUTH: &str = "/.well-known/oauth-authorization-server";

pub(crate) async fn finds_the_endpoint_in_oauth_metadata(deployment: Arc<Deployment>) {
    let server = deployment.start();
    let store = discover(&server).await;
    assert_eq!(requested_paths(&server).await, [(OAUTH.to_owned(), 200)]);
    assert_authenticates(&server, &store).await;
}

pub(crate) async fn finds_the_endpoint_in_openid_metadata(deployment: Arc<Deployment>) {
    // This server has no metadata at the RFC 8414 URL for an issuer with a path.
    let server = deployment.start_with(&[("BASE_PATH", "/tenant")]);
    let store = discover(&server).await;
    let openid = "/tenant/.well-known/openid-configuration";
    let expected = [(format!("{OAUTH}/tenant"), 404), (openid.to_owned(), 200)];
    assert_eq!(requested_paths(&server).await, expected);
    assert_authenticates(&server, &store).await;
}

pub(crate) async fn discovered_issuer_is_the_assertion_audience(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    for key in [es256(&deployment), rs256(&deployment)] {
        let builder = server.builder(ClientAuth::private_key_jwt(key));
        let store = builder.discover(server.issuer()).await.unwrap();
        assert_authenticates(&server, &store).await;
    }
}

pub(crate) async fn rejects_the_metadata_of_another_issuer(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let other_name = server.issuer().replace("127.0.0.1", "localhost");
    let builder = server.builder(basic(API));
    let error = builder.discover(&other_name).await.unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::IssuerMismatch);
    assert!(!format!("{error} {error:?}").contains(API[1]));
}

pub(crate) async fn discovery_of_a_silent_server_times_out(deployment: Arc<Deployment>) {
    let server = deployment.start();
    server.suspend();
    let deadline = Duration::from_secs(1);
    let builder = server.builder(basic(API)).with_timeout(deadline);
    let watch = Stopwatch::start();
    let error = builder.discover(server.issuer()).await.unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::Unavailable);
    let elapsed = watch.elapsed_without_stalls();
    assert!(elapsed <= deadline + SLACK, "{elapsed:?}");

    server.resume();
    assert_authenticates(&server, &discover(&server).await).await;
}

async fn discover(server: &AuthorizationServer) -> IntrospectionStore {
    let builder = server.builder(basic(API));
    builder.discover(server.issuer()).await.unwrap()
}

async fn assert_authenticates(server: &AuthorizationServer, store: &IntrospectionStore) {
    let service = ProtectedService::new(store);
    assert_eq!(service.status(&server.token().await).await, 200);
    assert_eq!(service.status("unknown").await, 401);
}

async fn requested_paths(server: &AuthorizationServer) -> Vec<(String, u16)> {
    let requests = server.logged_requests().await;
    requests
        .into_iter()
        .map(|it| (it.path, it.status))
        .collect()
}
