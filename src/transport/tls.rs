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
use rustls_pki_types::pem::{self, PemObject};

use super::endpoint::{PlainHttp, TransportConfigError};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Adds TLS to `tcp`, with the system's root certificates and those of the PEM `added`.
pub(super) fn connector(
    mut tcp: HttpConnector,
    system: &SystemCertificates,
    added: Option<Vec<u8>>,
    http: PlainHttp,
) -> Result<HttpsConnector<HttpConnector>, TransportConfigError> {
    tcp.enforce_http(false);
    let roots = roots(system, added)?;
    let allows_http = !matches!(http, PlainHttp::Deny);
    if !allows_http {
        system.check()?;
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

fn roots(
    system: &SystemCertificates,
    added: Option<Vec<u8>>,
) -> Result<RootCertStore, TransportConfigError> {
    let mut roots = RootCertStore::empty();
    // Some systems have certificates that are too old to parse.
    roots.add_parsable_certificates(system.certificates.iter().cloned());
    if let Some(pem) = added {
        let invalid = || TransportConfigError::InvalidRootCertificates;
        let added: Result<Vec<_>, _> = certificates_in(&pem).collect();
        let (added, ignored) = roots.add_parsable_certificates(added.map_err(|_| invalid())?);
        if added == 0 || ignored > 0 {
            return Err(invalid());
        }
    }
    Ok(roots)
}

/// The certificates of the system, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. An empty
/// variable counts as unset.
pub(super) struct SystemCertificates {
    certificates: Vec<CertificateDer<'static>>,
    checked: Result<(), TransportConfigError>,
}

impl SystemCertificates {
    /// Reads the certificates. Each file is read once, because the variable may name a pipe.
    pub(super) fn load() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// Returns an error if no certificate can be read from `SSL_CERT_FILE` or, if it is unset, from
    /// `SSL_CERT_DIR`.
    ///
    /// Without this check, connections fail with an untrusted authority, and the error does not name the
    /// variable.
    pub(super) fn check(&self) -> Result<(), TransportConfigError> {
        self.checked.clone()
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name| variable(name).filter(|value| !value.is_empty());
        let (file, folders) = (path("SSL_CERT_FILE"), path("SSL_CERT_DIR"));
        let mut certificates = Vec::new();
        let reason = if let Some(file) = &file {
            let file = Path::new(file);
            let path = file.display();
            match fs::read(file) {
                Ok(pem) => {
                    certificates.extend(certificates_in(&pem).filter_map(Result::ok));
                    format!("{path} (SSL_CERT_FILE) contains no PEM certificate")
                }
                Err(error) => {
                    format!("cannot read certificates from {path} (SSL_CERT_FILE): {error}")
                }
            }
        } else if let Some(folders) = &folders {
            let folders = Path::new(folders).display();
            format!("no PEM certificate in {folders} (SSL_CERT_DIR)")
        } else {
            return Self {
                certificates: native_certificates(variable("SSL_CERT_FILE").is_some()),
                checked: Ok(()),
            };
        };
        let in_file = has_root(&certificates);
        if let Some(folders) = &folders {
            certificates.extend(certificates_in_folders(folders));
        }
        let is_usable = in_file || (file.is_none() && has_root(&certificates));
        certificates.sort_unstable_by(|a, b| a.cmp(b));
        certificates.dedup();
        Self {
            certificates,
            checked: if is_usable {
                Ok(())
            } else {
                Err(TransportConfigError::UnusableCertificates(reason))
            },
        }
    }
}

fn has_root(certificates: &[CertificateDer<'static>]) -> bool {
    let found = certificates.iter().cloned();
    RootCertStore::empty().add_parsable_certificates(found).0 > 0
}

/// Returns the certificates of a PEM, which may begin with a byte order mark.
fn certificates_in(
    pem: &[u8],
) -> impl Iterator<Item = Result<CertificateDer<'static>, pem::Error>> {
    let pem = pem.strip_prefix(BYTE_ORDER_MARK).unwrap_or(pem);
    CertificateDer::pem_slice_iter(pem)
}

/// Returns the certificates in the regular files of folders, also behind symbolic links.
fn certificates_in_folders(folders: &OsString) -> Vec<CertificateDer<'static>> {
    let files = std::env::split_paths(folders)
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file());
    let pems: Vec<_> = files.filter_map(|path| fs::read(path).ok()).collect();
    let certificates = pems.iter().flat_map(|pem| certificates_in(pem));
    certificates.filter_map(Result::ok).collect()
}

/// Loads the certificates of the system. An empty `SSL_CERT_FILE` would hide them.
fn native_certificates(is_file_empty: bool) -> Vec<CertificateDer<'static>> {
    #[cfg(all(unix, not(target_vendor = "apple")))]
    if is_file_empty {
        let system = openssl_probe::probe();
        let folders = system.cert_dir.iter().map(|folder| (None, Some(&**folder)));
        let places = [(system.cert_file.as_deref(), None)]
            .into_iter()
            .chain(folders);
        let certificates =
            places.flat_map(|(file, folder)| load_certs_from_paths(file, folder).certs);
        return certificates.collect();
    }
    let _ = is_file_empty;
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
        let marked = format!("\u{feff}{served}");
        assert_eq!(send(&served, Some(&marked)).await, Ok(()));
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
        let marked = write(
            "marked.pem",
            &format!("\u{feff}{}", certificate("127.0.0.1")),
        );
        let missing = folder.join("missing.pem").into_os_string();
        let (folder, empty_folder) = (folder.into_os_string(), empty_folder.into_os_string());
        let check = |file: Option<&OsString>, folder: Option<&OsString>| {
            let system = SystemCertificates::from_variables(|name| match name {
                "SSL_CERT_FILE" => file.cloned(),
                _ => folder.cloned(),
            });
            match system.check() {
                Ok(()) => None,
                Err(TransportConfigError::UnusableCertificates(reason)) => Some(reason),
                Err(error) => panic!("{error:?}"),
            }
        };
        let unset = OsString::new();
        for file in [None, Some(&unset), Some(&good), Some(&marked)] {
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
            let found = SystemCertificates::from_variables(|name| {
                file.clone().filter(|_| name == "SSL_CERT_FILE")
            });
            let mut found: Vec<Vec<u8>> = found
                .certificates
                .iter()
                .map(|found| found.to_vec())
                .collect();
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
