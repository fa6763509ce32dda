//! The origins of URLs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use http::Uri;

/// The scheme, host and port of a server (RFC 6454).
///
/// Origins are equal if these three are:
///
/// 1. The scheme is `https` or `http`.
/// 2. Host names are compared in any case, and IPv6 addresses in any notation. A name and its address
///    differ, and so do `api.example` and `api.example.`.
/// 3. No port is the default one: 443 or 80.
///
/// ```
/// use tower_service_token::origin::Origin;
///
/// let origin = Origin::new("https://api.example")?;
/// assert_eq!(origin, Origin::new("HTTPS://API.example:443/")?);
/// assert_ne!(origin, Origin::new("https://api.example:8443")?);
///
/// let error = Origin::new("https://api.example/v1").unwrap_err();
/// assert_eq!(error.to_string(), "the URL has a path, a query or a fragment");
/// # Ok::<_, tower_service_token::origin::OriginError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    is_https: bool,
    host: Host,
    port: u16,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Host {
    /// In lower case.
    Name(String),
    Address(IpAddr),
}

impl Origin {
    /// Creates an origin from a URL of a scheme, a host and optionally a port, such as
    /// `https://api.example`, `http://127.0.0.1:8080` or `https://[2001:db8::1]`.
    ///
    /// A `/` at the end is ignored. Write an internationalized host name in ASCII, as
    /// `xn--bcher-kva.example` (RFC 5891).
    ///
    /// # Errors
    ///
    /// Returns an error for any other text. The error does not contain the text.
    pub fn new(text: &str) -> Result<Self, OriginError> {
        let (origin, rest) = Self::split(text).map_err(OriginError)?;
        match rest {
            "" | "/" => Ok(origin),
            _ => Err(OriginError(OriginErrorKind::Path)),
        }
    }

    /// Returns the origin of an absolute URI, whatever its path and query.
    ///
    /// # Errors
    ///
    /// Returns an error if the URI is relative, or if its scheme, host or port is not that of an origin.
    pub fn of(uri: &Uri) -> Result<Self, OriginError> {
        let scheme = uri.scheme_str();
        let scheme = scheme.ok_or(OriginError(OriginErrorKind::Scheme))?;
        let authority = uri.authority();
        let authority = authority.ok_or(OriginError(OriginErrorKind::Host))?;
        Self::from_parts(scheme, authority.as_str()).map_err(OriginError)
    }

    /// Splits a URL into its origin and the path with all that follows it.
    pub(crate) fn split(url: &str) -> Result<(Self, &str), OriginErrorKind> {
        let (scheme, rest) = url.split_once("://").ok_or(OriginErrorKind::Scheme)?;
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        Ok((Self::from_parts(scheme, authority)?, rest))
    }

    /// Returns whether an authority, such as the value of `Host`, has this host and port.
    #[cfg(feature = "api")]
    pub(crate) fn has_authority(&self, authority: &str) -> bool {
        Self::from_parts(self.scheme(), authority).as_ref() == Ok(self)
    }

    fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }

    fn from_parts(scheme: &str, authority: &str) -> Result<Self, OriginErrorKind> {
        let is_https = scheme.eq_ignore_ascii_case("https");
        if !is_https && !scheme.eq_ignore_ascii_case("http") {
            return Err(OriginErrorKind::Scheme);
        }
        if authority.contains('@') {
            return Err(OriginErrorKind::UserInfo);
        }
        let host_end = match authority.rfind(']') {
            Some(bracket) => bracket + 1,
            None => authority.find(':').unwrap_or(authority.len()),
        };
        let (host, port) = authority.split_at(host_end);
        let host = Host::parse(host)?;
        let port = match port.strip_prefix(':') {
            Some(port) => parse_port(port).ok_or(OriginErrorKind::Port)?,
            None if port.is_empty() => default_port(is_https),
            None => return Err(OriginErrorKind::Host),
        };
        Ok(Self {
            is_https,
            host,
            port,
        })
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, OriginErrorKind> {
        if !text.is_ascii() {
            return Err(OriginErrorKind::NonAsciiHost);
        }
        let bracketed = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        if let Some(address) = bracketed {
            let address: Result<Ipv6Addr, _> = address.parse();
            let address = address.map_err(|_| OriginErrorKind::Host)?;
            return Ok(Self::Address(address.into()));
        }
        let address: Result<Ipv4Addr, _> = text.parse();
        if let Ok(address) = address {
            return Ok(Self::Address(address.into()));
        }
        if is_host_name(text) {
            Ok(Self::Name(text.to_ascii_lowercase()))
        } else {
            Err(OriginErrorKind::Host)
        }
    }
}

fn is_host_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| {
        matches!(label.len(), 1..=63)
            && label.bytes().all(is_allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or(name);
    name.len() <= 253 && name.split('.').all(is_label) && !is_number(last)
}

/// Returns whether a browser or resolver reads the last label as a part of an IPv4 address.
fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or(label.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn parse_port(digits: &str) -> Option<u16> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.parse().ok().filter(|port| *port > 0);
    port.filter(|_| is_number)
}

fn default_port(is_https: bool) -> u16 {
    if is_https { 443 } else { 80 }
}

/// Displays the URL as browsers send it in the header `Origin`: in lower case, without a default port.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        match &self.host {
            Host::Name(name) => f.write_str(name)?,
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}")?,
            Host::Address(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
                // `Ipv6Addr` displays the last four bytes in decimal.
                Some(_) => {
                    let [.., high, low] = address.segments();
                    write!(f, "[::ffff:{high:x}:{low:x}]")?;
                }
                None => write!(f, "[{address}]")?,
            },
        }
        if self.port != default_port(self.is_https) {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}

/// Parses as [`Origin::new`] does.
impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        Self::new(text)
    }
}

/// A URL is not an [`Origin`].
///
/// `Display` does not repeat the URL, which may contain a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.description())]
pub struct OriginError(OriginErrorKind);

/// The causes of an [`OriginError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OriginErrorKind {
    /// The URL does not begin with `https://` or `http://`.
    Scheme,
    /// The URL has a user name or password.
    UserInfo,
    /// The URL has no host, or one that is neither a host name nor an IP address. An IPv6 address must be
    /// in brackets.
    Host,
    /// The host name is not ASCII.
    NonAsciiHost,
    /// The port is not a number from 1 to 65535.
    Port,
    /// The URL has a path, a query or a fragment.
    Path,
}

impl OriginError {
    /// Returns the cause.
    pub fn kind(&self) -> OriginErrorKind {
        self.0
    }
}

impl OriginErrorKind {
    fn description(self) -> &'static str {
        match self {
            Self::Scheme => "the URL does not begin with https:// or http://",
            Self::UserInfo => "the URL contains a user name or password",
            Self::Host => "the URL has no valid host name or IP address",
            Self::NonAsciiHost => "the URL has a host name that is not ASCII; write it as xn--…",
            Self::Port => "the URL has a port that is not a number from 1 to 65535",
            Self::Path => "the URL has a path, a query or a fragment",
        }
    }
}

#[cfg(test)]
mod tests;
