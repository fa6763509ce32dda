//! The servers to which the store sends tokens and the client secret.

use std::sync::Arc;

use test_support::authorization_server::clients::{API, basic};
use test_support::authorization_server::deployment::Deployment;
use test_support::authorization_server::server::AuthorizationServer;
use test_support::certificates::Authority;
use tower_service_token::introspection::{
    IntrospectionBuilder, IntrospectionErrorKind, IntrospectionStore,
};

use crate::protected_service::ProtectedService;

pub(crate) async fn trusts_an_added_root_by_name_and_address(deployment: Arc<Deployment>) {
    let server = deployment.start();
    let token = server.token().await;
    let by_name = server.endpoint().replace("127.0.0.1", "localhost");
    for endpoint in [server.endpoint(), by_name] {
        let store = server.builder(basic(API)).build(&endpoint).unwrap();
        assert_eq!(
            ProtectedService::new(&store).status(&token).await,
            200,
            "{endpoint}"
        );
    }
}

pub(crate) async fn trusts_any_of_several_added_roots(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let other = Authority::new("another authority");
    let roots = format!("{}{}", other.pem(), server.root().unwrap());
    let builder = IntrospectionStore::builder(basic(API)).with_root_certificates(roots);
    let store = builder.build(&server.endpoint()).unwrap();
    assert_eq!(
        ProtectedService::new(&store)
            .status(&server.token().await)
            .await,
        200
    );
}

pub(crate) async fn rejects_an_unknown_root(deployment: Arc<Deployment>) {
    let server = deployment.start();
    assert_server_receives_nothing(
        &server,
        IntrospectionStore::builder(basic(API)),
        &server.endpoint(),
    )
    .await;
}

pub(crate) async fn rejects_another_root(deployment: Arc<Deployment>) {
    let server = deployment.start();
    let other_name = Authority::new("another authority");
    let same_name = Authority::new("tower-service-token tests");
    for authority in [other_name, same_name] {
        let builder = IntrospectionStore::builder(basic(API));
        let builder = builder.with_root_certificates(authority.pem());
        assert_server_receives_nothing(&server, builder, &server.endpoint()).await;
    }
}

pub(crate) async fn rejects_a_certificate_for_another_host(deployment: Arc<Deployment>) {
    let authority = deployment.authority().unwrap();
    let server = deployment.start_with_certificate(&authority.certificate(&["other.example"]));
    assert_server_receives_nothing(&server, server.builder(basic(API)), &server.endpoint()).await;
}

pub(crate) async fn rejects_an_expired_certificate(deployment: Arc<Deployment>) {
    let authority = deployment.authority().unwrap();
    let server = deployment.start_with_certificate(&authority.expired_certificate(&["127.0.0.1"]));
    assert_server_receives_nothing(&server, server.builder(basic(API)), &server.endpoint()).await;
}

pub(crate) async fn plain_http_to_a_tls_server_is_unavailable(deployment: Arc<Deployment>) {
    let server = deployment.start();
    let endpoint = server.endpoint().replace("https:", "http:");
    let builder = server.builder(basic(API)).allow_http_to_loopback();
    assert_server_receives_nothing(&server, builder, &endpoint).await;
}

pub(crate) async fn tls_to_a_plain_server_is_unavailable(deployment: Arc<Deployment>) {
    let server = deployment.start();
    let endpoint = server.endpoint().replace("http:", "https:");
    assert_server_receives_nothing(&server, server.builder(basic(API)), &endpoint).await;
}

pub(crate) async fn plain_http_requires_opt_in_and_loopback(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let not_allowed = IntrospectionStore::builder(basic(API)).build(&server.endpoint());
    assert!(not_allowed.is_err());
    let other_host = server.endpoint().replace("127.0.0.1", "192.0.2.1");
    assert!(server.builder(basic(API)).build(&other_host).is_err());
    let allowed = server.builder(basic(API)).build(&server.endpoint());
    let service = ProtectedService::new(&allowed.unwrap());
    assert_eq!(service.status(&server.token().await).await, 200);
}

/// Asserts that a request is rejected with 503 and that the server receives no request.
async fn assert_server_receives_nothing(
    server: &AuthorizationServer,
    builder: IntrospectionBuilder,
    endpoint: &str,
) {
    let service = ProtectedService::new(&builder.build(endpoint).unwrap());
    let response = service.authenticate("unknown").await;
    assert_eq!(response.unavailable(), IntrospectionErrorKind::Transient);
    assert_eq!(response.cause().status(), None);
    assert_eq!(server.logged_requests().await, []);
}
