//! Server certificates of a test authority.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use test_support::certificates::{Authority, Certificate};
use tower_service_token::client::{ClientConfigError, ClientErrorKind, ServiceTokensClient};

use super::faulty_server::response_bytes;
use super::{TOKEN, TOKEN_JSON};

/// Starts a server that responds to one request over TLS. Its thread returns whether it read one.
fn server(certificate: &Certificate) -> (SocketAddr, std::thread::JoinHandle<bool>) {
    let chain = CertificateDer::from_pem_slice(certificate.chain.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let session = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        let mut request = [0; 4_096];
        let is_read = stream.read(&mut request).is_ok_and(|read| read > 0);
        let headers = [("content-type", "application/json")];
        let _ = stream.write_all(&response_bytes(200, &headers, TOKEN_JSON));
        is_read
    });
    (address, served)
}

/// Calls a server with this certificate. Returns the result, and whether the server read a request.
async fn call_over_tls(
    served: &Certificate,
    trusted: Option<&Authority>,
) -> (Option<ClientErrorKind>, bool) {
    let (address, thread) = server(served);
    let mut builder = ServiceTokensClient::builder(format!("https://{address}"))
        .with_token(TOKEN)
        .with_max_retries(0);
    if let Some(trusted) = trusted {
        builder = builder.with_root_certificates(trusted.pem());
    }
    let called = builder.build().unwrap().get_own().await;
    let has_received = tokio::task::spawn_blocking(|| thread.join().unwrap()).await;
    (
        called.err().map(|error| error.kind()),
        has_received.unwrap(),
    )
}

#[tokio::test]
async fn verifies_certificates() {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let valid = authority.certificate(&["127.0.0.1"]);
    let rejected = (Some(ClientErrorKind::Certificate), false);
    assert_eq!(call_over_tls(&valid, Some(&authority)).await, (None, true));
    assert_eq!(call_over_tls(&valid, Some(&other)).await, rejected);
    assert_eq!(call_over_tls(&valid, None).await, rejected);
    let wrong_name = authority.certificate(&["127.0.0.2"]);
    assert_eq!(call_over_tls(&wrong_name, Some(&authority)).await, rejected);
    let expired = authority.expired_certificate(&["127.0.0.1"]);
    assert_eq!(call_over_tls(&expired, Some(&authority)).await, rejected);
}

#[test]
fn rejects_invalid_root_certificates() {
    let builder = ServiceTokensClient::builder("https://tokens.example").with_token(TOKEN);
    let error = builder.with_root_certificates("hush").build().unwrap_err();
    assert!(matches!(error, ClientConfigError::InvalidRootCertificates));
}
