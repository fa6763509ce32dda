//! Why TLS with a server failed.

use std::error::Error;
use std::io;

use rustls::{CertificateError, Error as TlsError, InvalidMessage};
use rustls_pki_types::ServerName;

/// The maximum number of names of a certificate in an error.
const MAX_NAMES: usize = 3;

/// A failed TLS handshake.
pub(super) enum TlsProblem {
    /// The client does not accept the server's certificate, for this reason.
    Certificate(String),
    /// The server's response is not TLS.
    NoTls,
}

impl TlsProblem {
    /// Returns the problem of an error or of one of its sources.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut chain = std::iter::successors(Some(error), |&error| error.source());
        match chain.find_map(tls_error)? {
            TlsError::InvalidCertificate(error) => Some(Self::Certificate(describe(error))),
            TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => Some(Self::NoTls),
            _ => None,
        }
    }
}

/// Returns an error of TLS, in any number of [`io::Error`]s: they do not return it as their source.
fn tls_error<'a>(mut error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    loop {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        error = error.downcast_ref::<io::Error>()?.get_ref()?;
    }
}

fn describe(error: &CertificateError) -> String {
    let text = match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it is not signed by a trusted authority"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet"
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => return describe_names(expected, presented),
        CertificateError::NotValidForName => "it is for another name: see its subjectAltName",
        CertificateError::Other(other) if is_ca_used_as_server(&*other.0) => {
            "it is a CA certificate; create one for a server with `openssl req -x509 -addext \
             basicConstraints=critical,CA:FALSE`"
        }
        error => return error.to_string(),
    };
    text.to_owned()
}

/// Describes a certificate whose subjectAltName lacks the expected name. The common name is ignored.
fn describe_names(expected: &ServerName<'_>, presented: &[String]) -> String {
    let kind = match expected {
        ServerName::IpAddress(_) => "IP",
        _ => "DNS",
    };
    let expected = format!("{kind}:{}", expected.to_str());
    if presented.is_empty() {
        return format!("it has no subjectAltName; create it with `subjectAltName={expected}`");
    }
    let mut names: Vec<_> = presented
        .iter()
        .take(MAX_NAMES)
        .map(|name| subject_alt_name(name))
        .collect();
    if presented.len() > MAX_NAMES {
        names.push("…".to_owned());
    }
    let names = names.join(", ");
    format!("it is for another name: its subjectAltName has {names}, but not {expected}")
}

/// Formats a name that rustls shows as `DnsName("a")` in the way of `openssl`, as `DNS:a`.
fn subject_alt_name(name: &str) -> String {
    let inner = |start, end| name.strip_prefix(start)?.strip_suffix(end);
    let text = match (inner("DnsName(\"", "\")"), inner("IpAddress(", ")")) {
        (Some(dns), _) => format!("DNS:{dns}"),
        (_, Some(ip)) => format!("IP:{ip}"),
        _ => name.to_owned(),
    };
    text.escape_debug().to_string()
}

fn is_ca_used_as_server(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<webpki::Error>() == Some(&webpki::Error::CaUsedAsEndEntity)
}
