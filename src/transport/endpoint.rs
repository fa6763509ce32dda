use std::fmt;
use std::net::IpAddr;

use http::Uri;
use http::uri::{Authority, Scheme};
use rustls_pki_types::ServerName;

/// A URL that credentials may be sent to.
///
/// 1. It is `https`, or `http` to a host for which [that is allowed](PlainHttp).
/// 2. It has no user name, password or fragment. It may have a query.
/// 3. `Debug` and `Display` redact the query, which may contain a key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(Uri);

/// The hosts that may be called by `http`, which everyone on the network can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlainHttp {
    #[cfg_attr(
        not(any(feature = "introspection", test)),
        expect(dead_code, reason = "the default of the store")
    )]
    Deny,
    /// Loopback addresses and `localhost`.
    LoopbackOnly,
    #[cfg_attr(
        not(any(feature = "client", test)),
        expect(dead_code, reason = "only the client allows it")
    )]
    Allow,
}

/// A URL is not allowed, or the standard client cannot be created.
///
/// It quotes no URL, which may contain a password. Users of a transport convert it to an
/// error of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TransportConfigError {
    /// The URL is not an absolute `http` or `https` URL with a host.
    InvalidUrl,
    /// The URL is `http`, which is not allowed for its host.
    Insecure,
    /// The URL has a user name or password.
    UserInfo,
    /// The URL has a fragment, which is never sent.
    Fragment,
    /// The additional root certificates are not PEM, or one of them is not a certificate.
    #[cfg(feature = "rustls")]
    InvalidRootCertificates,
    /// The system has no root certificates and none were added.
    #[cfg(feature = "rustls")]
    NoRootCertificates,
    /// No certificate can be read from `SSL_CERT_FILE` or `SSL_CERT_DIR`. The message names the variable,
    /// the path and the reason.
    #[cfg(feature = "rustls")]
    UnusableCertificates(String),
    /// The URL is `https`, which the transport does not support.
    #[cfg(not(feature = "rustls"))]
    NoTls,
}

impl PlainHttp {
    fn allows_host(self, host: &str) -> bool {
        match self {
            Self::Deny => false,
            Self::LoopbackOnly => is_loopback(host),
            Self::Allow => true,
        }
    }
}

impl Endpoint {
    pub(crate) fn parse(url: &str, http: PlainHttp) -> Result<Self, TransportConfigError> {
        // `Uri` drops a fragment, and accepts a password.
        if url.contains('#') {
            return Err(TransportConfigError::Fragment);
        }
        let uri: Uri = url.parse().map_err(|_| TransportConfigError::InvalidUrl)?;
        let authority = uri.authority().ok_or(TransportConfigError::InvalidUrl)?;
        if authority.as_str().contains('@') {
            return Err(TransportConfigError::UserInfo);
        }
        if !is_valid(authority) {
            return Err(TransportConfigError::InvalidUrl);
        }
        match uri.scheme_str() {
            Some("https") => Ok(Self(uri)),
            Some("http") if http.allows_host(authority.host()) => Ok(Self(uri)),
            Some("http") => Err(TransportConfigError::Insecure),
            _ => Err(TransportConfigError::InvalidUrl),
        }
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }

    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }
}

/// Returns whether `authority` is a valid host name or address with an optional port.
fn is_valid(authority: &Authority) -> bool {
    let is_port = |digits: &str| {
        digits.bytes().all(|byte| byte.is_ascii_digit())
            && digits.parse().is_ok_and(|port: u16| port > 0)
    };
    let host = authority.host();
    // `Authority::port` ignores text between `]` and the port.
    let port = authority.as_str().strip_prefix(host);
    let has_valid_port =
        port.is_some_and(|port| port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    has_valid_port && ServerName::try_from(without_brackets(host)).is_ok()
}

fn is_loopback(host: &str) -> bool {
    let address: Result<IpAddr, _> = without_brackets(host).parse();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn without_brackets(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        match text.split_once('?') {
            Some((text, _)) => write!(f, "{text}?***"),
            None => f.write_str(&text),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_https_with_port_path_and_query() {
        for url in [
            "https://as.example",
            "https://as.example/introspect",
            "https://as.example:8443/a/b?tenant=1&x=%20",
            "https://192.0.2.1/introspect",
            "https://[2001:db8::1]:8443/introspect",
            "HTTPS://AS.example/introspect",
        ] {
            let endpoint = Endpoint::parse(url, PlainHttp::Deny)
                .unwrap_or_else(|error| panic!("{url}: {error:?}"));
            assert!(endpoint.is_https());
            assert_eq!(endpoint.uri(), &url.parse::<Uri>().unwrap());
        }
    }

    #[test]
    fn plain_http_is_accepted_to_loopback_only_when_allowed() {
        for url in [
            "http://127.0.0.1:8080/introspect",
            "http://127.9.9.9/introspect",
            "http://[::1]:8080/introspect",
            "http://localhost/introspect",
            "http://LOCALHOST:1/introspect",
        ] {
            let endpoint = Endpoint::parse(url, PlainHttp::LoopbackOnly)
                .unwrap_or_else(|error| panic!("{url}: {error:?}"));
            assert!(!endpoint.is_https());
            let refused = Endpoint::parse(url, PlainHttp::Deny);
            assert_eq!(refused, Err(TransportConfigError::Insecure), "{url}");
        }
        for url in [
            "http://as.example/introspect",
            "http://10.0.0.1/introspect",
            "http://0.0.0.0/introspect",
            "http://[::]/introspect",
            "http://[::ffff:127.0.0.1]/introspect",
            "http://127.0.0.1.example/introspect",
            "http://localhost.example/introspect",
            "http://localhost@as.example/introspect",
            "http://2130706433/introspect",
        ] {
            assert!(
                Endpoint::parse(url, PlainHttp::LoopbackOnly).is_err(),
                "{url}"
            );
        }
    }

    #[test]
    fn plain_http_is_accepted_to_any_host_when_allowed() {
        let parse = |url| Endpoint::parse(url, PlainHttp::Allow);
        assert!(parse("http://as.example:8080/introspect").is_ok());
        assert!(parse("https://as.example/introspect").is_ok());
        for url in ["ftp://as.example", "http://user@as.example", "http://"] {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn rejects_urls_with_a_password_or_a_fragment() {
        let refused = |url| Endpoint::parse(url, PlainHttp::LoopbackOnly).expect_err(url);
        for url in [
            "https://user:pass@as.example/introspect",
            "https://user@as.example/introspect",
            "https://@as.example/introspect",
        ] {
            assert_eq!(refused(url), TransportConfigError::UserInfo, "{url}");
        }
        for url in [
            "https://as.example/introspect#",
            "https://as.example/introspect#here",
            "https://as.example#here",
        ] {
            assert_eq!(refused(url), TransportConfigError::Fragment, "{url}");
        }
    }

    #[test]
    fn rejects_urls_that_are_not_absolute() {
        for url in [
            "",
            "introspect",
            "/introspect",
            "as.example",
            "as.example:443",
            "https://",
            "https:///introspect",
            "https://:443/introspect",
            "https://as.example:/introspect",
            "https://as.example:0/introspect",
            "https://as.example:65536/introspect",
            "https://as.example:+1/introspect",
            "https://as example/introspect",
            "https://[::1/introspect",
            "https://[::1]x:443/introspect",
            "https://[::1]8080:443/introspect",
            "https://[::1].as.example:443/introspect",
            "https://a_b..example/introspect",
            "ftp://as.example/introspect",
            "file:///introspect",
            " https://as.example/introspect",
        ] {
            let refused = Endpoint::parse(url, PlainHttp::LoopbackOnly);
            assert_eq!(refused, Err(TransportConfigError::InvalidUrl), "{url}");
        }
    }

    #[test]
    fn display_and_debug_redact_the_query() {
        let endpoint =
            Endpoint::parse("https://as.example:1/introspect?key=hush", PlainHttp::Deny).unwrap();
        assert_eq!(endpoint.to_string(), "https://as.example:1/introspect?***");
        assert_eq!(
            format!("{endpoint:?}"),
            "Endpoint(https://as.example:1/introspect?***)"
        );
        let bare = Endpoint::parse("https://as.example", PlainHttp::Deny).unwrap();
        assert_eq!(bare.to_string(), "https://as.example/");
    }
}
