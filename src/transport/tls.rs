use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
#[cfg(all(unix, not(target_vendor = "apple")))]
use rustls_native_certs::load_certs_from_paths;
use rustls_native_certs::load_native_certs;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::endpoint::{PlainHttp, TransportConfigError};

/// Adds TLS to `tcp`, with the system's root certificates and those of the PEM `added`.
pub(super) fn connector(
    mut tcp: HttpConnector,
    added: Option<Vec<u8>>,
    http: PlainHttp,
) -> Result<HttpsConnector<HttpConnector>, TransportConfigError> {
    tcp.enforce_http(false);
    let roots = roots(added)?;
    let allows_http = !matches!(http, PlainHttp::Deny);
    if !allows_http {
        check_certificate_variables()?;
        if roots.is_empty() {
            return Err(TransportConfigError::NoRootCertificates);
        }
    }
    // Explicit, because the default provider of a process depends on its other dependencies.
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
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
    // Some systems have certificates that are too old to parse.
    roots.add_parsable_certificates(native_certificates(|name| std::env::var_os(name)));
    if let Some(pem) = added {
        let invalid = || TransportConfigError::InvalidRootCertificates;
        let added: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let (added, ignored) = roots.add_parsable_certificates(added.map_err(|_| invalid())?);
        if added == 0 || ignored > 0 {
            return Err(invalid());
        }
    }
    Ok(roots)
}

/// Returns an error if no certificate can be read from `SSL_CERT_FILE` or, if it is unset, from
/// `SSL_CERT_DIR`.
///
/// Without this check, connections fail with an untrusted authority, and the error does not name the
/// variable.
pub(super) fn check_certificate_variables() -> Result<(), TransportConfigError> {
    check_variables(|name| std::env::var_os(name))
}

fn check_variables(
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<(), TransportConfigError> {
    let path = |name| variable(name).filter(|value| !value.is_empty());
    let reason = if let Some(file) = path("SSL_CERT_FILE") {
        let file = Path::new(&file);
        let path = file.display();
        match fs::read(file) {
            Ok(pem) if has_certificate(&pem) => return Ok(()),
            Ok(_) => format!("{path} (SSL_CERT_FILE) contains no PEM certificate"),
            Err(error) => format!("cannot read certificates from {path} (SSL_CERT_FILE): {error}"),
        }
    } else if let Some(folders) = path("SSL_CERT_DIR") {
        let files = std::env::split_paths(&folders)
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten()
            .filter_map(|entry| fs::read(entry.ok()?.path()).ok());
        if files.into_iter().any(|pem| has_certificate(&pem)) {
            return Ok(());
        }
        let folders = Path::new(&folders).display();
        format!("no PEM certificate in {folders} (SSL_CERT_DIR)")
    } else {
        return Ok(());
    };
    Err(TransportConfigError::UnusableCertificates(reason))
}

fn has_certificate(pem: &[u8]) -> bool {
    let found = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    RootCertStore::empty().add_parsable_certificates(found).0 > 0
}

/// Loads the certificates of the system, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. An
/// empty variable counts as unset.
fn native_certificates(
    variable: impl Fn(&str) -> Option<OsString>,
) -> Vec<CertificateDer<'static>> {
    let is_empty = |name| variable(name).map(|value| value.is_empty());
    #[cfg(all(unix, not(target_vendor = "apple")))]
    if is_empty("SSL_CERT_FILE") == Some(true) && is_empty("SSL_CERT_DIR") != Some(false) {
        let system = openssl_probe::probe();
        let folders = system.cert_dir.iter().map(|folder| (None, Some(&**folder)));
        let places = [(system.cert_file.as_deref(), None)]
            .into_iter()
            .chain(folders);
        let certificates =
            places.flat_map(|(file, folder)| load_certs_from_paths(file, folder).certs);
        return certificates.collect();
    }
    let _ = is_empty;
    load_native_certs().certs
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

    /// Returns a self-signed certificate for `name` with its key, in one PEM.
    fn certificate(name: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        format!("{}{}", certificate.pem(), key.serialize_pem())
    }

    /// Starts a server that responds to one request over TLS.
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
            // Fails if the client does not trust this server.
            let _ = stream.write_all(OK.as_bytes());
        });
        address
    }

    /// Sends a request to a server with the certificate `served`.
    async fn send(served: &str, trusted: Option<&str>) -> Result<(), SendErrorKind> {
        let trusted = trusted.map(|pem| pem.as_bytes().to_vec());
        let transport = Transport::standard(10 * SECOND, trusted, PlainHttp::LoopbackOnly).unwrap();
        let url = format!("https://{}/", server(served));
        let sent = transport.send(request(&url)).await;
        sent.map(|response| assert_eq!(response.status(), 200))
            .map_err(|error| error.kind)
    }

    #[tokio::test]
    async fn server_is_trusted_by_added_root_and_name() {
        let (served, other) = (certificate("127.0.0.1"), certificate("127.0.0.1"));
        let untrusted = Err(SendErrorKind::Certificate);
        assert_eq!(send(&served, Some(&served)).await, Ok(()));
        assert_eq!(
            send(&served, Some(&format!("{other}{served}"))).await,
            Ok(())
        );
        assert_eq!(send(&served, Some(&other)).await, untrusted);
        assert_eq!(send(&served, None).await, untrusted);
        let misnamed = certificate("127.0.0.2");
        assert_eq!(send(&misnamed, Some(&misnamed)).await, untrusted);
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

    #[test]
    fn variables_must_name_certificates() {
        let folder = std::env::temp_dir().join(format!("svctok-roots-{}", std::process::id()));
        let empty_folder = folder.join("empty");
        fs::create_dir_all(&empty_folder).unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path.into_os_string()
        };
        let good = write("good.pem", &certificate("127.0.0.1"));
        let empty = write("empty.pem", "");
        let other = write("other.pem", "hush");
        let missing = folder.join("missing.pem").into_os_string();
        let (folder, empty_folder) = (folder.into_os_string(), empty_folder.into_os_string());
        let check = |file: Option<&OsString>, folder: Option<&OsString>| {
            let checked = check_variables(|name| match name {
                "SSL_CERT_FILE" => file.cloned(),
                _ => folder.cloned(),
            });
            match checked {
                Ok(()) => None,
                Err(TransportConfigError::UnusableCertificates(reason)) => Some(reason),
                Err(error) => panic!("{error:?}"),
            }
        };
        let unset = OsString::new();
        for file in [None, Some(&unset), Some(&good)] {
            assert_eq!(check(file, None), None);
            assert_eq!(check(file, Some(&folder)), None);
        }
        for bad in [&empty, &other, &missing, &folder] {
            let reason = check(Some(bad), Some(&folder)).expect("an error");
            let named = format!("{} (SSL_CERT_FILE)", Path::new(bad).display());
            assert!(reason.contains(&named), "{reason}");
            assert!(!reason.contains("hush"), "{reason}");
        }
        for bad in [&empty_folder, &missing] {
            let reason = check(None, Some(bad)).expect("an error");
            let bad = Path::new(bad).display();
            let expected = format!("no PEM certificate in {bad} (SSL_CERT_DIR)");
            assert_eq!(reason, expected);
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(all(unix, not(target_vendor = "apple")))]
    #[test]
    fn empty_variables_name_no_certificates() {
        let found = |file: Option<&str>| {
            let file = file.map(OsString::from);
            let found =
                native_certificates(|name| file.clone().filter(|_| name == "SSL_CERT_FILE"));
            let mut found: Vec<Vec<u8>> = found.iter().map(|found| found.to_vec()).collect();
            found.sort_unstable();
            found.dedup();
            found
        };
        // The variables of the test process are not set.
        assert_eq!(found(Some("")), found(None));
        assert_eq!(
            found(Some("")).is_empty(),
            load_native_certs().certs.is_empty()
        );
    }
}
