mod error;

use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use serde::Deserialize;

pub use self::error::{DiscoveryError, DiscoveryErrorKind};
use super::config_error::IntrospectionConfigError;
use super::response::is_json;
use crate::transport::{BoxBody, Endpoint, PlainHttp, ReadBodyError, Transport, read_body};

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

const MAX_METADATA_LEN: usize = 64 * 1024;
const MAX_ISSUER_EXCERPT: usize = 200;

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
    http: PlainHttp,
    timeout: Duration,
) -> Result<Discovered, DiscoveryError> {
    let issuer_endpoint = Endpoint::parse(issuer, http).map_err(IntrospectionConfigError::from)?;
    if issuer_endpoint.uri().query().is_some() {
        return Err(IntrospectionConfigError::IssuerQuery.into());
    }
    transport
        .check(&issuer_endpoint)
        .map_err(IntrospectionConfigError::from)?;
    let metadata = tokio::time::timeout(timeout, metadata(transport, issuer_endpoint.uri())).await;
    let metadata = metadata.map_err(|_| DiscoveryError::unavailable("no answer in time"))??;
    if metadata.issuer != issuer {
        let named: String = metadata.issuer.chars().take(MAX_ISSUER_EXCERPT).collect();
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
    for url in metadata_urls(issuer)? {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = url;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(ACCEPT, json);
        let answer = transport.send(request).await;
        let answer = answer.map_err(DiscoveryError::unavailable)?;
        let status = answer.status();
        if status == StatusCode::OK {
            return read(answer).await;
        }
        let is_temporary = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
        if status.is_server_error() || is_temporary.contains(&status) {
            return Err(DiscoveryError::unavailable(format!("status {status}")));
        }
        if !status.is_client_error() {
            return Err(DiscoveryError::protocol(format!("status {status}")));
        }
    }
    let source = "there is no metadata at either place";
    Err(DiscoveryError::new(DiscoveryErrorKind::NoEndpoint, source))
}

fn metadata_urls(issuer: &Uri) -> Result<[Uri; 2], DiscoveryError> {
    let (Some(scheme), Some(authority)) = (issuer.scheme(), issuer.authority()) else {
        return Err(IntrospectionConfigError::InvalidUrl.into());
    };
    let path = issuer.path().strip_suffix('/').unwrap_or(issuer.path());
    let url = |path: String| {
        let uri = Uri::builder().scheme(scheme.clone());
        let uri = uri.authority(authority.clone()).path_and_query(path);
        uri.build()
            .map_err(|_| IntrospectionConfigError::InvalidUrl)
    };
    Ok([
        url(format!("/.well-known/oauth-authorization-server{path}"))?,
        url(format!("{path}/.well-known/openid-configuration"))?,
    ])
}

async fn read(answer: Response<BoxBody>) -> Result<Metadata, DiscoveryError> {
    if !is_json(answer.headers()) {
        return Err(DiscoveryError::protocol(
            "the metadata is not application/json",
        ));
    }
    let body: Bytes = read_body(answer.into_body(), MAX_METADATA_LEN)
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
        let requests = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(answers.into_iter()));
        let log = Arc::clone(&requests);
        let service = service_fn(move |request: Request<Full<Bytes>>| {
            assert_eq!(request.method(), "GET");
            assert_eq!(request.headers()[ACCEPT], "application/json");
            log.lock().unwrap().push(request.uri().to_string());
            let answer = answers.lock().unwrap().next().expect("not asked again");
            async move { Ok::<_, Infallible>(answer) }
        });
        (Transport::from_service(service), requests)
    }

    async fn discover_at(
        transport: &Transport,
        issuer: &str,
    ) -> Result<Discovered, DiscoveryError> {
        discover(transport, issuer, PlainHttp::Deny, Duration::from_secs(3)).await
    }

    /// What becomes of one answer at the first place.
    async fn kind_for(answer: Response<Full<Bytes>>) -> DiscoveryErrorKind {
        let (transport, requests) = server(vec![answer]);
        let failed = discover_at(&transport, ISSUER).await;
        assert_eq!(*requests.lock().unwrap(), [FIRST]);
        failed.expect_err("no endpoint").kind()
    }

    #[tokio::test]
    async fn finds_the_endpoint_at_the_oauth_metadata_url() {
        let (transport, requests) = server(vec![json(200, GOOD)]);
        let found = discover_at(&transport, ISSUER).await.unwrap();
        assert_eq!(found.endpoint.uri(), "https://as.example/introspect?x=1");
        assert_eq!(found.issuer, ISSUER);
        assert_eq!(*requests.lock().unwrap(), [FIRST]);
    }

    #[tokio::test]
    async fn falls_back_to_the_openid_configuration_url() {
        for status in [400, 401, 403, 404, 405, 410] {
            let (transport, requests) = server(vec![json(status, ""), json(200, GOOD)]);
            assert!(discover_at(&transport, ISSUER).await.is_ok(), "{status}");
            assert_eq!(*requests.lock().unwrap(), [FIRST, SECOND]);
        }
        let (transport, _) = server(vec![json(404, ""), json(404, "")]);
        let failed = discover_at(&transport, ISSUER).await.unwrap_err();
        assert_eq!(failed.kind(), DiscoveryErrorKind::NoEndpoint);
    }

    #[test]
    fn builds_the_metadata_urls_of_the_specifications() {
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
            let metadata_urls = metadata_urls(&issuer.parse().unwrap()).unwrap();
            assert_eq!(metadata_urls.map(|url| url.to_string()), [first, second]);
        }
    }

    #[tokio::test]
    async fn rejects_metadata_of_another_issuer() {
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
    async fn rejects_untrusted_or_malformed_metadata() {
        let plain = Response::builder().header(CONTENT_TYPE, "text/html");
        let twice = Response::builder().header(CONTENT_TYPE, "application/json");
        let twice = twice.header(CONTENT_TYPE, "text/html");
        let moved = Response::builder().status(302).header("location", FIRST);
        let padded = format!("{GOOD}{}", " ".repeat(MAX_METADATA_LEN));
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
    async fn failing_or_hanging_server_is_unavailable() {
        for status in [408, 429, 500, 503] {
            let kind = kind_for(json(status, GOOD)).await;
            assert_eq!(kind, DiscoveryErrorKind::Unavailable, "{status}");
        }
        let silent = service_fn(|_: Request<Full<Bytes>>| {
            std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
        });
        let started = tokio::time::Instant::now();
        let failed = discover_at(&Transport::from_service(silent), ISSUER)
            .await
            .unwrap_err();
        assert_eq!(failed.kind(), DiscoveryErrorKind::Unavailable);
        assert_eq!(started.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test]
    async fn rejects_invalid_issuer_urls() {
        let (transport, requests) = server(Vec::new());
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
        assert_eq!(requests.lock().unwrap().len(), 0);
    }
}
