//! Whom we hand a token to, and our secret with it.

use std::sync::Arc;

use tower_service_token::store::{
    IntrospectionBuilder, IntrospectionErrorKind, IntrospectionStore,
};

use crate::certificates::Authority;
use crate::clients::{API, basic};
use crate::guarded::Guarded;
use crate::server::AuthorizationServer;
use crate::site::Site;

pub(crate) async fn an_authority_that_was_added_is_trusted_by_name_and_address(site: Arc<Site>) {
    let server = site.start();
    let token = server.token().await;
    let by_name = server.endpoint().replace("127.0.0.1", "localhost");
    for endpoint in [server.endpoint(), by_name] {
        let store = server.builder(basic(API)).build(&endpoint).unwrap();
        assert_eq!(Guarded::by(&store).status(&token).await, 200, "{endpoint}");
    }
}

pub(crate) async fn one_of_several_authorities_that_were_added_will_do(site: Arc<Site>) {
    let server = site.shared();
    let other = Authority::new("another authority");
    let roots = format!("{}{}", other.pem(), server.root().unwrap());
    let builder = IntrospectionStore::builder(basic(API)).with_root_certificates(roots);
    let store = builder.build(&server.endpoint()).unwrap();
    assert_eq!(Guarded::by(&store).status(&server.token().await).await, 200);
}

pub(crate) async fn an_unknown_authority_is_not_trusted(site: Arc<Site>) {
    let server = site.start();
    is_not_asked(
        &server,
        IntrospectionStore::builder(basic(API)),
        &server.endpoint(),
    )
    .await;
}

pub(crate) async fn another_authority_is_not_trusted(site: Arc<Site>) {
    let server = site.start();
    let of_another_name = Authority::new("another authority");
    let of_the_same_name = Authority::new("tower-service-token tests");
    for authority in [of_another_name, of_the_same_name] {
        let builder = IntrospectionStore::builder(basic(API));
        let builder = builder.with_root_certificates(authority.pem());
        is_not_asked(&server, builder, &server.endpoint()).await;
    }
}

pub(crate) async fn a_certificate_for_another_host_is_not_trusted(site: Arc<Site>) {
    let authority = site.authority().unwrap();
    let server = site.start_showing(&authority.certificate(&["other.example"]));
    is_not_asked(&server, server.builder(basic(API)), &server.endpoint()).await;
}

pub(crate) async fn an_expired_certificate_is_not_trusted(site: Arc<Site>) {
    let authority = site.authority().unwrap();
    let server = site.start_showing(&authority.expired_certificate(&["127.0.0.1"]));
    is_not_asked(&server, server.builder(basic(API)), &server.endpoint()).await;
}

pub(crate) async fn plain_http_to_a_server_with_tls_is_unavailable(site: Arc<Site>) {
    let server = site.start();
    let endpoint = server.endpoint().replace("https:", "http:");
    let builder = server.builder(basic(API)).allow_http_to_loopback();
    is_not_asked(&server, builder, &endpoint).await;
}

pub(crate) async fn tls_to_a_server_without_it_is_unavailable(site: Arc<Site>) {
    let server = site.start();
    let endpoint = server.endpoint().replace("http:", "https:");
    is_not_asked(&server, server.builder(basic(API)), &endpoint).await;
}

pub(crate) async fn plain_http_must_be_allowed_and_only_to_loopback(site: Arc<Site>) {
    let server = site.shared();
    let not_allowed = IntrospectionStore::builder(basic(API)).build(&server.endpoint());
    assert!(not_allowed.is_err());
    let elsewhere = server.endpoint().replace("127.0.0.1", "192.0.2.1");
    assert!(server.builder(basic(API)).build(&elsewhere).is_err());
    let allowed = server.builder(basic(API)).build(&server.endpoint());
    let service = Guarded::by(&allowed.unwrap());
    assert_eq!(service.status(&server.token().await).await, 200);
}

/// Each request is 503, and the server sees none.
async fn is_not_asked(server: &AuthorizationServer, builder: IntrospectionBuilder, endpoint: &str) {
    let service = Guarded::by(&builder.build(endpoint).unwrap());
    let answer = service.ask("unknown").await;
    assert_eq!(answer.unavailable(), IntrospectionErrorKind::Transient);
    assert_eq!(answer.cause().status(), None);
    assert_eq!(server.asked().await, []);
}
