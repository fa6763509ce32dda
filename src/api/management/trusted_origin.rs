use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The origin of a site (RFC 6454) whose pages may change tokens, such as `https://app.example`.
///
/// See [`ManagementApi::with_trusted_origin`](super::ManagementApi::with_trusted_origin).
///
/// ```
/// use tower_service_token::api::management::TrustedOrigin;
///
/// let origin = TrustedOrigin::new("https://app.example:8443")?;
/// assert_eq!(origin.as_str(), "https://app.example:8443");
/// assert!(TrustedOrigin::new("https://app.example/tokens").is_err());
/// # Ok::<_, tower_service_token::api::management::TrustedOriginError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrustedOrigin(Box<str>);

impl TrustedOrigin {
    /// Creates an origin from `http://` or `https://`, a host and optionally a port.
    ///
    /// Letters become lower case and the default port of the scheme is removed, because browsers send
    /// origins in this form.
    ///
    /// # Errors
    ///
    /// Returns an error for any other text: another scheme, a port that is not a number from 0 to
    /// 65535, a path (also `/`), a user name, a wildcard, or a host that is not ASCII.
    pub fn new(text: &str) -> Result<Self, TrustedOriginError> {
        let (scheme, authority) = text
            .split_once("://")
            .ok_or(TrustedOriginError::new(SCHEME))?;
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match &*scheme {
            "http" => 80,
            "https" => 443,
            _ => return Err(TrustedOriginError::new(SCHEME)),
        };
        if authority.contains(['/', '\\', '?', '#']) {
            return Err(TrustedOriginError::new(PATH));
        }
        if authority.contains('@') {
            return Err(TrustedOriginError::new(USER));
        }
        let (host, port) = split_port(authority);
        if !is_host(host) {
            return Err(TrustedOriginError::new(HOST));
        }
        let port = port.map(parse_port).transpose()?;
        let host = host.to_ascii_lowercase();
        Ok(Self(match port.filter(|port| *port != default_port) {
            Some(port) => format!("{scheme}://{host}:{port}").into(),
            None => format!("{scheme}://{host}").into(),
        }))
    }

    /// Returns the origin as browsers send it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustedOrigin {
    type Err = TrustedOriginError;

    /// As [`new`](Self::new).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl fmt::Display for TrustedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A text is not a [`TrustedOrigin`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TrustedOriginError(&'static str);

impl TrustedOriginError {
    fn new(reason: &'static str) -> Self {
        Self(reason)
    }
}

const SCHEME: &str = "an origin starts with https:// or http://";
const PATH: &str = "an origin has no path, query or fragment, and does not end with '/'";
const USER: &str = "an origin has no user name";
const HOST: &str = "the host of an origin is a name in ASCII (xn--… for others) or an IP address";
const PORT: &str = "the port of an origin is a number from 0 to 65535";

/// Splits at the colon behind the host. The address of IPv6 has colons, and is in brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn is_host(host: &str) -> bool {
    let in_brackets = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    if let Some(address) = in_brackets {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_allowed);
    host.split('.').all(is_label)
}

fn parse_port(port: &str) -> Result<u16, TrustedOriginError> {
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_number);
    port.ok_or(TrustedOriginError::new(PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_form_that_browsers_send() {
        for (text, expected) in [
            ("https://app.example", "https://app.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("HTTPS://App.Example", "https://app.example"),
            ("https://app.example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("https://app.example:80", "https://app.example:80"),
            ("https://app.example:0", "https://app.example:0"),
            ("https://app.example:08443", "https://app.example:8443"),
            ("https://app.example:65535", "https://app.example:65535"),
            (
                "https://xn--bcher-kva.example",
                "https://xn--bcher-kva.example",
            ),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]", "http://[::1]"),
            ("http://[2001:DB8::1]:8080", "http://[2001:db8::1]:8080"),
        ] {
            let origin = TrustedOrigin::new(text).expect(text);
            assert_eq!(origin.as_str(), expected);
            assert_eq!(origin.to_string(), expected);
            assert_eq!(text.parse(), Ok(origin));
        }
    }

    #[test]
    fn rejects_what_is_no_origin() {
        for (text, expected) in [
            ("", SCHEME),
            ("null", SCHEME),
            ("*", SCHEME),
            ("app.example", SCHEME),
            ("app.example:443", SCHEME),
            ("//app.example", SCHEME),
            ("://app.example", SCHEME),
            ("ftp://app.example", SCHEME),
            (" https://app.example", SCHEME),
            ("https://app.example/", PATH),
            ("https://app.example/tokens", PATH),
            ("https://app.example?a", PATH),
            ("https://app.example#a", PATH),
            ("https://app.example\\", PATH),
            ("https://user@app.example", USER),
            ("https://user:password@app.example", USER),
            ("https://", HOST),
            ("https://:8443", HOST),
            ("https://*.app.example", HOST),
            ("https://app..example", HOST),
            ("https://app.example ", HOST),
            ("https://bücher.example", HOST),
            ("https://::1", HOST),
            ("https://[::1", HOST),
            ("https://[app.example]", HOST),
            ("https://app.example:1:2", HOST),
            ("https://app.example:", PORT),
            ("https://app.example:99999", PORT),
            ("https://app.example:65536", PORT),
            ("https://app.example:-1", PORT),
            ("https://app.example:+80", PORT),
            ("https://app.example:https", PORT),
        ] {
            let error = TrustedOrigin::new(text).expect_err(text);
            assert_eq!(error.to_string(), expected, "{text}");
        }
    }
}
