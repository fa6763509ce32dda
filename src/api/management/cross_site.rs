//! Changes that pages of other sites request in the browser of a user.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{HOST, ORIGIN, REFERER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use crate::api::body;
use crate::origin::Origin;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is rejected.
#[derive(Debug, PartialEq, Eq)]
enum CrossSiteError {
    /// A page of another site may have requested the change.
    CrossSite,
    /// A header has more than one line, so that a proxy and the API may read different ones.
    Repeated,
}

/// Rejects changes that a page of another site requests in a browser, before the actor is determined.
pub(super) async fn reject_cross_site(
    State(trusted): State<Arc<[Origin]>>,
    request: Request,
    next: Next,
) -> Response {
    let checked = check(request.method(), request.uri(), request.headers(), &trusted);
    match checked {
        Ok(()) => next.run(request).await,
        Err(CrossSiteError::CrossSite) => {
            let detail = "changes from pages of other sites are not accepted";
            body::problem_response(StatusCode::FORBIDDEN, "cross_site_request", detail)
        }
        Err(CrossSiteError::Repeated) => {
            let detail = "one of the headers Host, Origin, Referer and Sec-Fetch-Site is repeated";
            body::problem_response(StatusCode::BAD_REQUEST, "invalid_request", detail)
        }
    }
}

/// Decides as `http.CrossOriginProtection` of Go does, except for requests with a `Referer` alone: their
/// browser is too old for the other headers, and its origin is checked instead.
fn check(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    trusted: &[Origin],
) -> Result<(), CrossSiteError> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let host = only_value(headers, &HOST)?;
    let site = only_value(headers, &SEC_FETCH_SITE)?;
    let origin = only_value(headers, &ORIGIN)?;
    let referrer = only_value(headers, &REFERER)?;
    // HTTP/2 has no `Host`.
    let authority = uri.authority().map(|it| it.as_str().as_bytes()).or(host);
    let authority = authority.and_then(|it| str::from_utf8(it).ok());
    let is_trusted = |origin: &Origin| trusted.contains(origin);
    let is_own_or_trusted = |origin: &Origin| {
        authority.is_some_and(|it| origin.has_authority(it)) || is_trusted(origin)
    };
    let is_accepted = match (site, origin, referrer) {
        (Some(b"same-origin" | b"none"), ..) | (None, None, None) => true,
        (Some(_), Some(origin), _) => origin_of_page(origin).as_ref().is_some_and(is_trusted),
        (Some(_), None, _) => false,
        (None, Some(origin), _) => {
            let origin = origin_of_page(origin);
            origin.as_ref().is_some_and(is_own_or_trusted)
        }
        (None, None, Some(url)) => split(url).is_some_and(|(it, _)| is_own_or_trusted(&it)),
    };
    if is_accepted {
        Ok(())
    } else {
        Err(CrossSiteError::CrossSite)
    }
}

/// Returns the value of a header that must not be repeated.
fn only_value<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a [u8]>, CrossSiteError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(HeaderValue::as_bytes);
    match values.next() {
        Some(_) => Err(CrossSiteError::Repeated),
        None => Ok(value),
    }
}

/// Parses the value of `Origin`, which has no path, not even `/`.
fn origin_of_page(value: &[u8]) -> Option<Origin> {
    let (origin, rest) = split(value)?;
    rest.is_empty().then_some(origin)
}

fn split(url: &[u8]) -> Option<(Origin, &str)> {
    Origin::split(str::from_utf8(url).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(
        method: &Method,
        lines: &[(HeaderName, &'static [u8])],
    ) -> Result<(), CrossSiteError> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let value = HeaderValue::from_bytes(value).expect("a header value");
            headers.append(name, value);
        }
        let trusted = ["https://other.example", "http://localhost:3000"];
        let trusted = trusted.map(|it| Origin::new(it).expect("an origin"));
        check(method, &Uri::from_static("/tokens"), &headers, &trusted)
    }

    #[test]
    fn repeated_headers_are_ambiguous() {
        let lines: [(_, &[u8]); 4] = [
            (HOST, b"app.example"),
            (ORIGIN, b"https://app.example"),
            (REFERER, b"https://app.example"),
            (SEC_FETCH_SITE, b"same-origin"),
        ];
        assert_eq!(decide(&Method::POST, &lines), Ok(()));
        for (name, value) in &lines {
            let mut lines = lines.to_vec();
            lines.push((name.clone(), value));
            let decided = decide(&Method::POST, &lines);
            assert_eq!(decided, Err(CrossSiteError::Repeated), "{name}");
            assert_eq!(decide(&Method::GET, &lines), Ok(()), "{name}");
        }
    }

    #[test]
    fn values_that_no_browser_sends_are_rejected() {
        let host = (HOST, b"app.example".as_slice());
        for line in [
            (SEC_FETCH_SITE, b"".as_slice()),
            (SEC_FETCH_SITE, b"same-origin, cross-site"),
            (ORIGIN, b""),
            (ORIGIN, b"\xff"),
            (ORIGIN, b"app.example"),
            (ORIGIN, b"//app.example"),
            (ORIGIN, b"https://"),
            (ORIGIN, b"ftp://app.example"),
            (ORIGIN, b"https://app.example/"),
            (ORIGIN, b"https://other.example/"),
            (ORIGIN, b"https://app.example https://evil.example"),
            (REFERER, b""),
            (REFERER, b"/tokens"),
            (REFERER, b"about:blank"),
            (REFERER, b"https://"),
            (REFERER, b"https:///app.example"),
        ] {
            let decided = decide(&Method::POST, &[host.clone(), line.clone()]);
            assert_eq!(decided, Err(CrossSiteError::CrossSite), "{line:?}");
            let decided = decide(&Method::POST, &[(HOST, b""), line.clone()]);
            assert_eq!(decided, Err(CrossSiteError::CrossSite), "{line:?}");
            let decided = decide(&Method::POST, std::slice::from_ref(&line));
            assert_eq!(decided, Err(CrossSiteError::CrossSite), "{line:?}");
        }
    }

    #[test]
    fn origins_are_compared_in_any_notation() {
        for (host, origin, expected) in [
            ("app.example:443", "https://app.example", true),
            ("App.Example", "https://app.example", true),
            ("[::ffff:127.0.0.1]", "https://[::ffff:7f00:1]", true),
            ("app.example:443", "http://app.example", false),
            ("app.example", "https://app.example:8443", false),
            ("app.example", "https://other.example:443", true),
            ("app.example", "http://other.example", false),
        ] {
            for name in [ORIGIN, REFERER] {
                let lines = [(HOST, host.as_bytes()), (name.clone(), origin.as_bytes())];
                let decided = decide(&Method::POST, &lines);
                assert_eq!(decided.is_ok(), expected, "{host} {name} {origin}");
            }
        }
    }

    #[test]
    fn only_reads_are_exempt() {
        let line = [(SEC_FETCH_SITE, b"cross-site".as_slice())];
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert_eq!(decide(&method, &line), Ok(()), "{method}");
        }
        for method in ["POST", "PUT", "PATCH", "DELETE", "TRACE", "PURGE", "get"] {
            let method = Method::from_bytes(method.as_bytes()).expect(method);
            let decided = decide(&method, &line);
            assert_eq!(decided, Err(CrossSiteError::CrossSite), "{method}");
        }
    }
}
