//! The client authentication methods.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use test_support::authorization_server::clients::{API, POSTER, SPECIAL, basic, es256, rs256};
use test_support::authorization_server::deployment::Deployment;
use test_support::authorization_server::server::{AuthorizationServer, TrackedServer};
use tower_service_token::introspection::{
    BreakerState, ClientAuth, IntrospectionErrorKind, PrivateKeyJwt,
};

use crate::protected_service::{ProtectedService, ServiceResponse};

pub(crate) async fn basic_credentials_are_accepted(deployment: Arc<Deployment>) {
    let [id, secret] = API;
    for auth in [
        ClientAuth::basic(id, secret),
        ClientAuth::basic_raw(id, secret),
    ] {
        let scheme = assert_authenticates(&deployment.shared(), auth).await;
        assert_eq!(scheme.as_deref(), Some("Basic"));
    }
}

pub(crate) async fn basic_credentials_with_special_characters_are_accepted(
    deployment: Arc<Deployment>,
) {
    let scheme = assert_authenticates(&deployment.shared(), basic(SPECIAL)).await;
    assert_eq!(scheme.as_deref(), Some("Basic"));
}

pub(crate) async fn server_rejects_unencoded_basic_credentials(deployment: Arc<Deployment>) {
    // The server percent-decodes the secret to another one, or fails to decode it.
    let [id, secret] = POSTER;
    assert_credentials_rejected(&deployment, ClientAuth::basic_raw(id, secret)).await;
    let response = send_valid_token(&deployment, ClientAuth::basic_raw(id, "100%")).await;
    assert_eq!(response.cause().status().unwrap(), 400);
    assert_eq!(response.unavailable(), IntrospectionErrorKind::Protocol);
}

pub(crate) async fn post_credentials_with_special_characters_are_accepted(
    deployment: Arc<Deployment>,
) {
    let [id, secret] = POSTER;
    let scheme = assert_authenticates(&deployment.shared(), ClientAuth::post(id, secret)).await;
    assert_eq!(scheme, None);
}

pub(crate) async fn signed_assertion_is_accepted(deployment: Arc<Deployment>) {
    for key in [es256(&deployment), rs256(&deployment)] {
        let server = deployment.shared();
        let key = key.with_audience(server.issuer());
        let scheme = assert_authenticates(&server, ClientAuth::private_key_jwt(key)).await;
        assert_eq!(scheme, None);
    }
}

pub(crate) async fn assertion_supports_key_id_and_other_audiences(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let token = server.token().await;
    let without_query = AuthorizationServer::endpoint(&server);
    for audience in [without_query, server.token_endpoint()] {
        for (key, id) in [(es256(&deployment), "es256"), (rs256(&deployment), "rs256")] {
            let key = key.with_audience(&audience).with_key_id(id);
            let key = key.with_lifetime(Duration::from_secs(10));
            let service = service(&server, ClientAuth::private_key_jwt(key));
            assert_eq!(service.status(&token).await, 200, "{id} {audience}");
        }
    }
}

pub(crate) async fn assertion_audience_defaults_to_the_issuer(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let token = server.token().await;
    for key in [es256(&deployment), rs256(&deployment)] {
        let builder = server.builder(ClientAuth::private_key_jwt(key));
        let builder = builder.with_issuer(server.issuer());
        let store = builder.build(&server.endpoint()).unwrap();
        assert_eq!(ProtectedService::new(&store).status(&token).await, 200);
    }
}

pub(crate) async fn each_call_sends_a_new_assertion(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let token = server.token().await;
    for key in [es256(&deployment), rs256(&deployment)] {
        let key = key.with_audience(server.issuer());
        let service = service(&server, ClientAuth::private_key_jwt(key));
        for _ in 0..5 {
            // The server rejects a `jti` that it has seen.
            assert_eq!(service.status(&token).await, 200);
        }
    }
}

pub(crate) async fn wrong_client_secret_is_503(deployment: Arc<Deployment>) {
    let [id, _] = API;
    for auth in [
        ClientAuth::basic(id, "wrong-secret"),
        ClientAuth::basic_raw(id, "wrong-secret"),
        ClientAuth::post(id, "wrong-secret"),
        ClientAuth::basic("unknown-client", "wrong-secret"),
    ] {
        assert_credentials_rejected(&deployment, auth).await;
    }
}

pub(crate) async fn wrong_client_key_is_503(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let issuer = server.issuer();
    let foreign = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let foreign = PrivateKeyJwt::es256("signer-es256", &foreign).unwrap();
    let algorithm = PrivateKeyJwt::rs256("signer-es256", deployment.client_key("rs256")).unwrap();
    let audience = es256(&deployment).with_audience("https://other.example");
    for key in [
        foreign.with_audience(issuer),
        algorithm.with_audience(issuer),
        audience,
    ] {
        assert_credentials_rejected(&deployment, ClientAuth::private_key_jwt(key)).await;
    }
}

pub(crate) async fn rejected_credentials_are_not_retried_and_do_not_open_the_breaker(
    deployment: Arc<Deployment>,
) {
    let server = deployment.shared();
    let builder = server.builder(ClientAuth::basic(API[0], "wrong-secret"));
    let store = builder.build(&server.endpoint()).unwrap();
    let service = ProtectedService::new(&store);
    for number in 0..10 {
        let response = service.authenticate(&format!("token-{number}")).await;
        assert_eq!(response.unavailable(), IntrospectionErrorKind::Credentials);
    }
    assert_eq!(server.calls().await, 10);
    assert_eq!(store.status().breaker, BreakerState::Closed);
}

/// The request runs on a separate thread, because a log is captured per thread.
pub(crate) async fn rejected_credentials_are_logged_as_an_error(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let token = server.token().await;
    let send_request = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let auth = ClientAuth::basic(API[0], "wrong-secret");
            service(&server, auth).status(&token).await
        })
    };
    let captured = || tests::capture::captured(send_request);
    let (status, log, _) = std::thread::scope(|it| it.spawn(captured).join()).unwrap();
    assert_eq!(status, 503);
    let target = "tower_service_token::introspection";
    let is_expected = |line: &str| line.contains("ERROR") && line.contains(target);
    assert!(log.lines().any(is_expected), "{log}");
    assert!(
        !log.contains("wrong-secret") && !log.contains(&token),
        "{log}"
    );
}

pub(crate) async fn bearer_token_is_accepted(deployment: Arc<Deployment>) {
    let server = deployment.shared();
    let client_token = server.token_with(&[("scope", "introspection")]).await;
    let scheme = assert_authenticates(&server, ClientAuth::bearer(client_token)).await;
    assert_eq!(scheme.as_deref(), Some("Bearer"));
}

pub(crate) async fn bearer_token_without_introspection_rights_is_rejected(
    deployment: Arc<Deployment>,
) {
    let server = deployment.shared();
    assert_credentials_rejected(&deployment, ClientAuth::bearer("wrong-secret")).await;
    let reader = server.token_with(&[("scope", "read")]).await;
    assert_credentials_rejected(&deployment, ClientAuth::bearer(reader)).await;
}

pub(crate) async fn server_rejects_bearer_client_authentication(deployment: Arc<Deployment>) {
    let response = send_valid_token(&deployment, ClientAuth::bearer("a-token")).await;
    assert_eq!(response.cause().status().unwrap(), 400);
    assert_eq!(response.unavailable(), IntrospectionErrorKind::Protocol);
}

/// Asserts that a valid token is accepted and an unknown one is rejected. Returns the scheme of the
/// `Authorization` header.
async fn assert_authenticates(server: &TrackedServer<'_>, auth: ClientAuth) -> Option<String> {
    let service = service(server, auth);
    assert_eq!(service.status(&server.token().await).await, 200);
    assert_eq!(service.status("unknown").await, 401);
    let requests = server.logged_requests().await;
    let [first, second] = requests.try_into().expect("one request for each token");
    assert_eq!(first, second);
    first.scheme
}

/// Returns the response to a request with a valid token.
async fn send_valid_token(deployment: &Deployment, auth: ClientAuth) -> ServiceResponse {
    let server = deployment.shared();
    service(&server, auth)
        .authenticate(&server.token().await)
        .await
}

async fn assert_credentials_rejected(deployment: &Deployment, auth: ClientAuth) {
    let response = send_valid_token(deployment, auth).await;
    assert_eq!(response.unavailable(), IntrospectionErrorKind::Credentials);
    let cause = response.cause();
    // Not every server conforms to RFC 7662 §2.3.
    assert!(matches!(cause.status().unwrap().as_u16(), 401 | 403));
    let message = format!("{cause} {cause:?} {:?}", cause.source());
    assert!(!message.contains("wrong-secret"), "{message}");
}

fn service(server: &TrackedServer<'_>, auth: ClientAuth) -> ProtectedService {
    let builder = server.builder(auth).with_ttl(Duration::ZERO);
    // Longer than any response takes on a busy machine.
    let builder = builder.with_timeout(Duration::from_secs(30));
    ProtectedService::new(&builder.build(&server.endpoint()).unwrap())
}
