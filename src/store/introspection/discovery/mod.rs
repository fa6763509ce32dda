mod error;

use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use serde::Deserialize;

pub use self::error::{DiscoveryError, DiscoveryErrorKind};
use super::config_error::IntrospectionConfigError;
use super::outcome::is_json;
use crate::transport::{BoxBody, Endpoint, Http, ReadBodyError, Transport, read_body};

/// What a server says of itself.
#[derive(Debug)]
pub(super) struct Discovered {
    pub(super) endpoint: Endpoint,
    pub(super) issuer: String,
}

/// The part of the metadata that is read (RFC 8414, section 2).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    introspection_endpoint: Option<String>,
}

const LONGEST_METADATA: usize = 64 * 1024;
const MOST_OF_A_FOREIGN_TEXT: usize = 200;

/// Asks `issuer` for its introspection endpoint, within `timeout`.
///
/// 1. First `/.well-known/oauth-authorization-server` between host and path (RFC 8414, section 3),
///    then `/.well-known/openid-configuration` behind the path (`OpenID` Connect Discovery 1.0,
///    section 4); the second only if there is nothing at the first.
/// 2. The metadata must name exactly the issuer asked for (RFC 8414, section 3.3).
/// 3. The endpoint must be one that may be sent credentials.
pub(super) async fn discover(
    transport: &Transport,
    issuer: &str,
    http: Http,
    timeout: Duration,
) -> Result<Discovered, DiscoveryError> {
    let asked = Endpoint::parse(issuer, http).map_err(IntrospectionConfigError::from)?;
    if asked.uri().query().is_some() {
        return Err(IntrospectionConfigError::IssuerQuery.into());
    }
    transport
        .check(&asked)
        .map_err(IntrospectionConfigError::from)?;
    let metadata = tokio::time::timeout(timeout, metadata(transport, asked.uri())).await;
    let metadata = metadata.map_err(|_| DiscoveryError::unavailable("no answer in time"))??;
    if metadata.issuer != issuer {
        let named: String = metadata
            .issuer
            .chars()
            .take(MOST_OF_A_FOREIGN_TEXT)
            .collect();
        let source = format!("the metadata names the issuer {named:?}");
        return Err(DiscoveryError::new(
            DiscoveryErrorKind::IssuerMismatch,
            source,
        ));
    }
    let endpoint = metadata.introspection_endpoint.ok_or_else(|| {
        let source = "the metadata has no introspection_endpoint";
        DiscoveryError::new(DiscoveryErrorKind::NoEndpoint, source)
    })?;
    let endpoint = Endpoint::parse(&endpoint, http).map_err(IntrospectionConfigError::from);
    let endpoint = endpoint.map_err(DiscoveryError::protocol)?;
    transport
        .check(&endpoint)
        .map_err(IntrospectionConfigError::from)?;
    Ok(Discovered {
        endpoint,
        issuer: metadata.issuer,
    })
}

/// The metadata at the first place that has some.
async fn metadata(transport: &Transport, issuer: &Uri) -> Result<Metadata, DiscoveryError> {
    for place in places(issuer)? {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = place;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(ACCEPT, json);
        let answer = transport.send(request).await;
        let answer = answer.map_err(DiscoveryError::unavailable)?;
        let status = answer.status();
        if status == StatusCode::OK {
            return read(answer).await;
        }
        let comes_back = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
        if status.is_server_error() || comes_back.contains(&status) {
            return Err(DiscoveryError::unavailable(format!("status {status}")));
        }
        if !status.is_client_error() {
            return Err(DiscoveryError::protocol(format!("status {status}")));
        }
    }
    let source = "there is no metadata at either place";
    Err(DiscoveryError::new(DiscoveryErrorKind::NoEndpoint, source))
}

fn places(issuer: &Uri) -> Result<[Uri; 2], DiscoveryError> {
    let (Some(scheme), Some(authority)) = (issuer.scheme(), issuer.authority()) else {
        return Err(IntrospectionConfigError::InvalidUrl.into());
    };
    let path = issuer.path().strip_suffix('/').unwrap_or(issuer.path());
    let place = |path: String| {
        let uri = Uri::builder().scheme(scheme.clone());
        let uri = uri.authority(authority.clone()).path_and_query(path);
        uri.build()
            .map_err(|_| IntrospectionConfigError::InvalidUrl)
    };
    Ok([
        place(format!("/.well-known/oauth-authorization-server{path}"))?,
        place(format!("{path}/.well-known/openid-configuration"))?,
    ])
}

async fn read(answer: Response<BoxBody>) -> Result<Metadata, DiscoveryError> {
    if !is_json(answer.headers()) {
        return Err(DiscoveryError::protocol(
            "the metadata is not application/json",
        ));
    }
    let body: Bytes = read_body(answer.into_body(), LONGEST_METADATA)
        .await
        .map_err(|error| match error {
            ReadBodyError::TooLarge => DiscoveryError::protocol(error),
            ReadBodyError::Failed(_) => DiscoveryError::unavailable(error),
        })?;
    serde_json::from_slice(&body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let source = format!("the metadata is unreadable at line {line}, column {column}");
        DiscoveryError::protocol(source)
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::error::Error;
    use std::sync::{Arc, Mutex};

    use http::header::CONTENT_TYPE;
    use tower::service_fn;

    use super::*;

    const ISSUER: &str = "https://as.example/tenant";
    const FIRST: &str = "https://as.example/.well-known/oauth-authorization-server/tenant";
    const SECOND: &str = "https://as.example/tenant/.well-known/openid-configuration";
    const GOOD: &str = r#"{"issuer": "https://as.example/tenant", "jwks_uri": 7,
        "introspection_endpoint": "https://as.example/introspect?x=1"}"#;

    fn json(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
        let answer = Response::builder().status(status);
        let answer = answer.header(CONTENT_TYPE, "application/json; charset=utf-8");
        answer.body(Full::new(body.into())).unwrap()
    }

    /// A server that gives these answers in turn, and what it was asked for.
    fn server(answers: Vec<Response<Full<Bytes>>>) -> (Transport, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(answers.into_iter()));
        let log = Arc::clone(&asked);
        let service = service_fn(move |request: Request<Full<Bytes>>| {
            assert_eq!(request.method(), "GET");
            assert_eq!(request.headers()[ACCEPT], "application/json");
            log.lock().unwrap().push(request.uri().to_string());
            let answer = answers.lock().unwrap().next().expect("not asked again");
            async move { Ok::<_, Infallible>(answer) }
        });
        (Transport::of(service), asked)
    }

    async fn discover_at(
        transport: &Transport,
        issuer: &str,
    ) -> Result<Discovered, DiscoveryError> {
        discover(transport, issuer, Http::Nowhere, Duration::from_secs(3)).await
    }

    /// What becomes of one answer at the first place.
    async fn kind_for(answer: Response<Full<Bytes>>) -> DiscoveryErrorKind {
        let (transport, asked) = server(vec![answer]);
        let failed = discover_at(&transport, ISSUER).await;
        assert_eq!(*asked.lock().unwrap(), [FIRST]);
        failed.expect_err("no endpoint").kind()
    }

    #[tokio::test]
    async fn the_endpoint_is_found_at_the_first_place() {
        let (transport, asked) = server(vec![json(200, GOOD)]);
        let found = discover_at(&transport, ISSUER).await.unwrap();
        assert_eq!(found.endpoint.uri(), "https://as.example/introspect?x=1");
        assert_eq!(found.issuer, ISSUER);
        assert_eq!(*asked.lock().unwrap(), [FIRST]);
    }

    #[tokio::test]
    async fn the_second_place_is_asked_when_there_is_nothing_at_the_first() {
        for status in [400, 401, 403, 404, 405, 410] {
            let (transport, asked) = server(vec![json(status, ""), json(200, GOOD)]);
            assert!(discover_at(&transport, ISSUER).await.is_ok(), "{status}");
            assert_eq!(*asked.lock().unwrap(), [FIRST, SECOND]);
        }
        let (transport, _) = server(vec![json(404, ""), json(404, "")]);
        let failed = discover_at(&transport, ISSUER).await.unwrap_err();
        assert_eq!(failed.kind(), DiscoveryErrorKind::NoEndpoint);
    }

    #[test]
    fn the_places_are_those_of_the_specifications() {
        for (issuer, first, second) in [
            (
                "https://as.example",
                "https://as.example/.well-known/oauth-authorization-server",
                "https://as.example/.well-known/openid-configuration",
            ),
            (
                "https://as.example:8443/",
                "https://as.example:8443/.well-known/oauth-authorization-server",
                "https://as.example:8443/.well-known/openid-configuration",
            ),
            (ISSUER, FIRST, SECOND),
            ("https://as.example/tenant/", FIRST, SECOND),
        ] {
            let places = places(&issuer.parse().unwrap()).unwrap();
            assert_eq!(places.map(|place| place.to_string()), [first, second]);
        }
    }

    #[tokio::test]
    async fn metadata_of_another_issuer_is_refused() {
        for other in [
            "https://as.example/tenant/",
            "https://AS.example/tenant",
            "https://evil",
            "",
        ] {
            let body = GOOD.replace("https://as.example/tenant", other);
            let kind = kind_for(json(200, body)).await;
            assert_eq!(kind, DiscoveryErrorKind::IssuerMismatch, "{other}");
        }
    }

    #[tokio::test]
    async fn metadata_that_cannot_be_trusted_or_read_is_refused() {
        let plain = Response::builder().header(CONTENT_TYPE, "text/html");
        let twice = Response::builder().header(CONTENT_TYPE, "application/json");
        let twice = twice.header(CONTENT_TYPE, "text/html");
        let moved = Response::builder().status(302).header("location", FIRST);
        let padded = format!("{GOOD}{}", " ".repeat(LONGEST_METADATA));
        let insecure = GOOD.replace(
            "https://as.example/introspect",
            "http://127.0.0.1/introspect",
        );
        let repeated = GOOD
            .replace(r#""jwks_uri""#, r#""issuer""#)
            .replace('7', "\"x\"");
        let unnamed = GOOD.replace("issuer", "issue");
        for answer in [
            plain.body(GOOD.into()).unwrap(),
            twice.body(GOOD.into()).unwrap(),
            moved.body(GOOD.into()).unwrap(),
            Response::new(GOOD.into()),
            json(204, GOOD),
            json(200, &GOOD[1..]),
            json(200, padded),
            json(200, "[]"),
            json(200, b"{\"issuer\": \"\xff\"}".as_slice()),
            json(200, insecure),
            json(200, repeated),
            json(200, unnamed),
        ] {
            let shown = format!("{answer:?}");
            let kind = kind_for(answer).await;
            assert_eq!(kind, DiscoveryErrorKind::Protocol, "{shown}");
        }
        let without = r#"{"issuer": "https://as.example/tenant"}"#;
        let kind = kind_for(json(200, without)).await;
        assert_eq!(kind, DiscoveryErrorKind::NoEndpoint);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_down_or_silent_is_unavailable() {
        for status in [408, 429, 500, 503] {
            let kind = kind_for(json(status, GOOD)).await;
            assert_eq!(kind, DiscoveryErrorKind::Unavailable, "{status}");
        }
        let silent = service_fn(|_: Request<Full<Bytes>>| {
            std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
        });
        let started = tokio::time::Instant::now();
        let failed = discover_at(&Transport::of(silent), ISSUER)
            .await
            .unwrap_err();
        assert_eq!(failed.kind(), DiscoveryErrorKind::Unavailable);
        assert_eq!(started.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test]
    async fn an_issuer_that_may_not_be_asked_is_a_config_error() {
        let (transport, asked) = server(Vec::new());
        for issuer in [
            "http://as.example",
            "http://127.0.0.1",
            "https://as.example?tenant=1",
            "https://as.example#here",
            "https://me:hush@as.example",
            "as.example",
        ] {
            let failed = discover_at(&transport, issuer).await.unwrap_err();
            assert_eq!(failed.kind(), DiscoveryErrorKind::Config, "{issuer}");
            let source = failed.source().expect("a source");
            assert!(source.is::<IntrospectionConfigError>());
            assert!(!format!("{failed:?} {failed} {source}").contains("hush"));
        }
        assert_eq!(asked.lock().unwrap().len(), 0);
    }
}
