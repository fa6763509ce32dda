use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::load_native_certs;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::store::introspection::config_error::IntrospectionConfigError;

/// TLS over `tcp`, trusting the system's roots and the certificates in the PEM `added`.
pub(super) fn connector(
    mut tcp: HttpConnector,
    added: Option<&[u8]>,
    allow_http: bool,
) -> Result<HttpsConnector<HttpConnector>, IntrospectionConfigError> {
    tcp.enforce_http(false);
    let roots = roots(added)?;
    if roots.is_empty() && !allow_http {
        return Err(IntrospectionConfigError::NoRootCertificates);
    }
    // Named, as which one is the process's default depends on what else is linked.
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = HttpsConnectorBuilder::new().with_tls_config(config);
    let builder = if allow_http {
        builder.https_or_http()
    } else {
        builder.https_only()
    };
    Ok(builder.enable_http1().wrap_connector(tcp))
}

fn roots(added: Option<&[u8]>) -> Result<RootCertStore, IntrospectionConfigError> {
    let mut roots = RootCertStore::empty();
    // Some systems have a few that are too old to be understood.
    roots.add_parsable_certificates(load_native_certs().certs);
    if let Some(pem) = added {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.ok().map(|certificate| roots.add(certificate));
            let Some(Ok(())) = certificate else {
                return Err(IntrospectionConfigError::InvalidRootCertificates);
            };
        }
        if roots.len() == before {
            return Err(IntrospectionConfigError::InvalidRootCertificates);
        }
    }
    Ok(roots)
}
