use http::Uri;
use http::uri::Scheme;

/// The scheme, host and port of a server (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
}

impl Origin {
    /// Parses an origin. Returns `None` if the URL has another part, or lacks one.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let is_bare = uri.path_and_query().is_none_or(|path| path == "/");
        let has_user = uri.authority()?.as_str().contains('@');
        let origin = Self::of(&uri)?;
        (is_bare && !has_user && !url.contains('#')).then_some(origin)
    }

    /// Returns the origin of an absolute target.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme()?.clone();
        let default = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        Some(Self {
            scheme,
            host: uri.host()?.to_ascii_lowercase(),
            port: uri.port_u16().unwrap_or(default),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_scheme_host_and_port() {
        let origin = Origin::parse("https://api.example").unwrap();
        for same in [
            "https://api.example/a?b",
            "https://API.example:443",
            "HTTPS://api.example/",
        ] {
            assert_eq!(
                Origin::of(&same.parse().unwrap()).as_ref(),
                Some(&origin),
                "{same}"
            );
        }
        for other in [
            "http://api.example/",
            "https://api.example:8443/",
            "https://api.example.net/",
            "https://evil.example/api.example",
            "/a",
        ] {
            assert_ne!(
                Origin::of(&other.parse().unwrap()),
                Some(origin.clone()),
                "{other}"
            );
        }
    }

    #[test]
    fn rejects_urls_that_are_not_origins() {
        for bad in [
            "",
            "api.example",
            "https://api.example/v1",
            "https://api.example?a",
            "https://api.example/#a",
            "https://user@api.example",
            "ftp://api.example",
            "/",
        ] {
            assert_eq!(Origin::parse(bad), None, "{bad}");
        }
    }
}
