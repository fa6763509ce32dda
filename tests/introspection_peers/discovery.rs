//! The endpoint, as the server's own metadata names it.

use std::sync::Arc;
use std::time::Duration;

use tower_service_token::store::{ClientAuth, DiscoveryErrorKind, IntrospectionStore};

use crate::SLACK;
use crate::clients::{API, basic, es256, rs256};
use crate::guarded::Guarded;
use crate::server::AuthorizationServer;
use crate::site::Site;
use crate::stall::Stopwatch;

const OAUTH: &str = "/.well-known/oauth-authorization-server";

pub(crate) async fn the_endpoint_is_found_in_the_oauth_metadata(site: Arc<Site>) {
    let server = site.start();
    let store = discover(&server).await;
    assert_eq!(paths(&server).await, [(OAUTH.to_owned(), 200)]);
    works(&server, &store).await;
}

pub(crate) async fn the_endpoint_is_found_in_the_openid_metadata(site: Arc<Site>) {
    // Where RFC 8414 puts the metadata of an issuer with a path, this server has nothing.
    let server = site.start_with(&[("BASE_PATH", "/tenant")]);
    let store = discover(&server).await;
    let openid = "/tenant/.well-known/openid-configuration";
    let expected = [(format!("{OAUTH}/tenant"), 404), (openid.to_owned(), 200)];
    assert_eq!(paths(&server).await, expected);
    works(&server, &store).await;
}

pub(crate) async fn the_issuer_that_was_found_is_the_audience_of_assertions(site: Arc<Site>) {
    let server = site.shared();
    for key in [es256(&site), rs256(&site)] {
        let builder = server.builder(ClientAuth::private_key_jwt(key));
        let store = builder.discover(server.issuer()).await.unwrap();
        works(&server, &store).await;
    }
}

pub(crate) async fn metadata_of_another_issuer_are_refused(site: Arc<Site>) {
    let server = site.shared();
    let other_name = server.issuer().replace("127.0.0.1", "localhost");
    let builder = server.builder(basic(API));
    let error = builder.discover(&other_name).await.unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::IssuerMismatch);
    assert!(!format!("{error} {error:?}").contains(API[1]));
}

pub(crate) async fn a_server_that_does_not_answer_is_an_error_in_time(site: Arc<Site>) {
    let server = site.start();
    server.suspend();
    let deadline = Duration::from_secs(1);
    let builder = server.builder(basic(API)).with_timeout(deadline);
    let watch = Stopwatch::start();
    let error = builder.discover(server.issuer()).await.unwrap_err();
    assert_eq!(error.kind(), DiscoveryErrorKind::Unavailable);
    let took = watch.unstalled();
    assert!(took <= deadline + SLACK, "{took:?}");

    server.resume();
    works(&server, &discover(&server).await).await;
}

async fn discover(server: &AuthorizationServer) -> IntrospectionStore {
    let builder = server.builder(basic(API));
    builder.discover(server.issuer()).await.unwrap()
}

async fn works(server: &AuthorizationServer, store: &IntrospectionStore) {
    let service = Guarded::by(store);
    assert_eq!(service.status(&server.token().await).await, 200);
    assert_eq!(service.status("unknown").await, 401);
}

async fn paths(server: &AuthorizationServer) -> Vec<(String, u16)> {
    let asked = server.asked().await;
    asked.into_iter().map(|it| (it.path, it.status)).collect()
}
