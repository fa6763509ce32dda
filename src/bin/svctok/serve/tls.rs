use std::fs;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::permissions;
use crate::args::ServeArgs;
use crate::failure::{Failure, FailureKind};

/// Returns the TLS acceptor, if a certificate is configured.
///
/// Returns an error without a certificate if the address is not loopback, unless
/// `--insecure-plain-http` allows it.
pub(super) fn acceptor(args: &ServeArgs) -> Result<Option<TlsAcceptor>, Failure> {
    if let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) {
        return acceptor_from_files(certificate, key).map(Some);
    }
    let address = args.listen;
    if !address.ip().to_canonical().is_loopback() {
        if !args.insecure_plain_http {
            return Err(Failure::usage(format!(
                "plain HTTP on {address} would expose tokens to the network"
            ))
            .with_hint(
                "specify --tls-cert and --tls-key, or --insecure-plain-http behind a proxy that terminates TLS",
            ));
        }
        tracing::warn!(%address, "plain HTTP exposes tokens to the network");
    }
    Ok(None)
}

fn acceptor_from_files(certificate: &Path, key: &Path) -> Result<TlsAcceptor, Failure> {
    let cannot_read = |path: &Path, error: &pem::Error| {
        Failure::context(FailureKind::Usage, path.display(), error)
    };
    let chain = read_pem(certificate)
        .and_then(|pem| {
            let certificates = CertificateDer::pem_slice_iter(without_mark(&pem));
            certificates.collect::<Result<Vec<_>, _>>()
        })
        .map_err(|error| cannot_read(certificate, &error))?;
    if chain.is_empty() {
        let message = format!("{}: no certificate found", certificate.display());
        return Err(Failure::usage(message));
    }
    permissions::warn_about_secret(key, "TLS key");
    let secret = read_pem(key)
        .and_then(|pem| PrivateKeyDer::from_pem_slice(without_mark(&pem)))
        .map_err(|error| cannot_read(key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| {
            let tried = format!("{} with {}", certificate.display(), key.display());
            Failure::context(FailureKind::Usage, tried, &error)
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read_pem(path: &Path) -> Result<Zeroizing<Vec<u8>>, pem::Error> {
    fs::read(path).map(Zeroizing::new).map_err(pem::Error::Io)
}

/// Returns a PEM without the byte order mark that some editors add.
fn without_mark(pem: &[u8]) -> &[u8] {
    pem.strip_prefix(b"\xef\xbb\xbf").unwrap_or(pem)
}
