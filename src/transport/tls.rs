use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::load_native_certs;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{PlainHttp, TransportConfigError};

/// TLS over `tcp`, trusting the system's roots and the certificates in the PEM `added`.
pub(super) fn connector(
    mut tcp: HttpConnector,
    added: Option<Vec<u8>>,
    http: PlainHttp,
) -> Result<HttpsConnector<HttpConnector>, TransportConfigError> {
    tcp.enforce_http(false);
    let roots = roots(added)?;
    let allows_http = !matches!(http, PlainHttp::Deny);
    if roots.is_empty() && !allows_http {
        return Err(TransportConfigError::NoRootCertificates);
    }
    // Named, as which one is the process's default depends on what else is linked.
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = HttpsConnectorBuilder::new().with_tls_config(config);
    let builder = if allows_http {
        builder.https_or_http()
    } else {
        builder.https_only()
    };
    Ok(builder.enable_http1().wrap_connector(tcp))
}

fn roots(added: Option<Vec<u8>>) -> Result<RootCertStore, TransportConfigError> {
    let mut roots = RootCertStore::empty();
    // Some systems have a few that are too old to be understood.
    roots.add_parsable_certificates(load_native_certs().certs);
    if let Some(pem) = added {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.ok().map(|certificate| roots.add(certificate));
            let Some(Ok(())) = certificate else {
                return Err(TransportConfigError::InvalidRootCertificates);
            };
        }
        if roots.len() == before {
            return Err(TransportConfigError::InvalidRootCertificates);
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::SocketAddr;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};
    use rustls_pki_types::PrivateKeyDer;

    use super::super::tests::{OK, SECOND, blocking_listener, read_request, request};
    use super::super::{SendErrorKind, Transport};
    use super::*;

    /// A certificate for `name` that is its own root, and its key, in one PEM.
    fn certificate(name: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        format!("{}{}", certificate.pem(), key.serialize_pem())
    }

    /// A server that answers one request over TLS.
    fn server(pem: &str) -> SocketAddr {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = blocking_listener();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let session = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = StreamOwned::new(session, stream);
            read_request(&mut stream);
            // In vain if the client does not trust this server.
            let _ = stream.write_all(OK.as_bytes());
        });
        address
    }

    /// How a request to a server with the certificate `served` ends.
    async fn ask(served: &str, trusted: Option<&str>) -> Result<(), SendErrorKind> {
        let trusted = trusted.map(|pem| pem.as_bytes().to_vec());
        let transport = Transport::standard(10 * SECOND, trusted, PlainHttp::LoopbackOnly).unwrap();
        let url = format!("https://{}/", server(served));
        let sent = transport.send(request(&url)).await;
        sent.map(|answer| assert_eq!(answer.status(), 200))
            .map_err(|error| error.kind)
    }

    #[tokio::test]
    async fn server_is_trusted_by_added_root_and_name() {
        let (served, other) = (certificate("127.0.0.1"), certificate("127.0.0.1"));
        let refused = Err(SendErrorKind::Connect);
        assert_eq!(ask(&served, Some(&served)).await, Ok(()));
        assert_eq!(
            ask(&served, Some(&format!("{other}{served}"))).await,
            Ok(())
        );
        assert_eq!(ask(&served, Some(&other)).await, refused);
        assert_eq!(ask(&served, None).await, refused);
        let misnamed = certificate("127.0.0.2");
        assert_eq!(ask(&misnamed, Some(&misnamed)).await, refused);
    }

    #[test]
    fn rejects_invalid_root_certificates() {
        let good = certificate("127.0.0.1");
        let damaged = good.replacen("CERTIFICATE-----\nMI", "CERTIFICATE-----\nMA", 1);
        assert_ne!(damaged, good);
        for pem in ["", "hush", &damaged, &format!("{good}{damaged}")] {
            let error =
                Transport::standard(SECOND, Some(pem.into()), PlainHttp::LoopbackOnly).unwrap_err();
            assert_eq!(
                error,
                TransportConfigError::InvalidRootCertificates,
                "{pem}"
            );
        }
    }
}
