use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use serde::Deserialize;

use super::config_error::IntrospectionConfigError;
use super::discovery_error::{DiscoveryError, DiscoveryErrorKind};
use crate::media_type;
use crate::transport::{BoxBody, Endpoint, PlainHttp, ReadBodyError, Transport, read_body};

/// An introspection endpoint and its issuer.
#[derive(Debug)]
pub(super) struct Discovered {
    pub(super) endpoint: Endpoint,
    pub(super) issuer: String,
}

/// The part of the metadata that is used (RFC 8414, section 2).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    introspection_endpoint: Option<String>,
}

const MAX_METADATA_LEN: usize = 64 * 1024;
const MAX_ISSUER_EXCERPT: usize = 200;

/// Requests the metadata of `issuer` and returns its introspection endpoint, within `timeout`.
///
/// 1. The URLs are `/.well-known/oauth-authorization-server` between host and path (RFC 8414,
///    section 3), then `/.well-known/openid-configuration` after the path (`OpenID` Connect Discovery
///    1.0, section 4). The second is tried only if the first responds with a client error.
/// 2. The metadata must name exactly the requested issuer (RFC 8414, section 3.3).
/// 3. The endpoint must be one that may receive credentials.
pub(super) async fn discover(
    transport: &Transport,
    issuer: &str,
    http: PlainHttp,
    timeout: Duration,
) -> Result<Discovered, DiscoveryError> {
    let usable = |url: &str| {
        let endpoint = Endpoint::parse(url, http)?;
        transport.check(&endpoint)?;
        Ok::<_, IntrospectionConfigError>(endpoint)
    };
    let issuer_url = usable(issuer)?;
    if issuer_url.uri().query().is_some() {
        return Err(IntrospectionConfigError::IssuerQuery.into());
    }
    let metadata = tokio::time::timeout(timeout, metadata(transport, issuer_url.uri())).await;
    let metadata = metadata.map_err(|_| DiscoveryError::unavailable("the server timed out"))??;
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
    let endpoint = usable(&endpoint).map_err(|error| match error {
        IntrospectionConfigError::NoTls | IntrospectionConfigError::UnusableCertificates(_) => {
            DiscoveryError::from(error)
        }
        _ => DiscoveryError::protocol(error),
    })?;
    Ok(Discovered {
        endpoint,
        issuer: metadata.issuer,
    })
}

/// Requests the metadata from the first URL that has some.
async fn metadata(transport: &Transport, issuer: &Uri) -> Result<Metadata, DiscoveryError> {
    for url in metadata_urls(issuer)? {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = url;
        let json = HeaderValue::from_static(media_type::JSON);
        request.headers_mut().insert(ACCEPT, json);
        let response = transport.send(request).await;
        let response = response.map_err(DiscoveryError::unavailable)?;
        let status = response.status();
        if status == StatusCode::OK {
            return read(response).await;
        }
        let is_temporary = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
        if status.is_server_error() || is_temporary.contains(&status) {
            return Err(DiscoveryError::unavailable(format!("status {status}")));
        }
        if !status.is_client_error() {
            return Err(DiscoveryError::protocol(format!("status {status}")));
        }
    }
    let source = "neither metadata url exists";
    Err(DiscoveryError::new(DiscoveryErrorKind::NoEndpoint, source))
}

fn metadata_urls(issuer: &Uri) -> Result<[Uri; 2], IntrospectionConfigError> {
    let path = issuer.path().strip_suffix('/').unwrap_or(issuer.path());
    let url = |path: String| {
        let url = Uri::builder()
            .scheme(issuer.scheme_str().unwrap_or_default())
            .authority(issuer.authority().map_or("", |it| it.as_str()));
        let url = url.path_and_query(path).build();
        url.map_err(|_| IntrospectionConfigError::InvalidUrl)
    };
    Ok([
        url(format!("/.well-known/oauth-authorization-server{path}"))?,
        url(format!("{path}/.well-known/openid-configuration"))?,
    ])
}

async fn read(response: Response<BoxBody>) -> Result<Metadata, DiscoveryError> {
    if !media_type::is(response.headers(), media_type::JSON) {
        let source = "the metadata is not application/json";
        return Err(DiscoveryError::protocol(source));
    }
    let body = read_body(response.into_body(), MAX_METADATA_LEN).await;
    let body = body.map_err(|error| match error {
        ReadBodyError::TooLarge => DiscoveryError::protocol(error),
        ReadBodyError::Failed(_) => DiscoveryError::unavailable(error),
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let source = format!("invalid metadata at line {line}, column {column}");
        DiscoveryError::protocol(source)
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::error::Error;
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use http::header::CONTENT_TYPE;
    use tower::service_fn;

    use super::*;

    const ISSUER: &str = "https://as.example/tenant";
    const FIRST: &str = "https://as.example/.well-known/oauth-authorization-server/tenant";
    const SECOND: &str = "https://as.example/tenant/.well-known/openid-configuration";
    const GOOD: &str = r#"{"issuer": "https://as.example/tenant", "jwks_uri": 7,
        "introspection_endpoint": "https://as.example/introspect?x=1"}"#;

    fn json(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
        let response = Response::builder().status(status);
        let response = response.header(CONTENT_TYPE, "application/json; charset=utf-8");
        response.body(Full::new(body.into())).unwrap()
    }

    /// Returns a server that sends these responses in turn, and the URLs of its requests.
    fn server(responses: Vec<Response<Full<Bytes>>>) -> (Transport, Arc<Mutex<Vec<String>>>) {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let responses = Arc::new(Mutex::new(responses.into_iter()));
        let log = Arc::clone(&requests);
        let service = service_fn(move |request: Request<Full<Bytes>>| {
            assert_eq!(request.method(), "GET");
            assert_eq!(request.headers()[ACCEPT], "application/json");
            log.lock().unwrap().push(request.uri().to_string());
            let response = responses
                .lock()
                .unwrap()
                .next()
                .expect("no further request");
            async move { Ok::<_, Infallible>(response) }
        });
        (Transport::from_service(service), requests)
    }

    async fn discover_at(
        transport: &Transport,
        issuer: &str,
    ) -> Result<Discovered, DiscoveryError> {
        discover(transport, issuer, PlainHttp::Deny, Duration::from_secs(3)).await
    }

    /// Returns the error for one response at the first URL.
    async fn kind_for(response: Response<Full<Bytes>>) -> DiscoveryErrorKind {
        let (transport, requests) = server(vec![response]);
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
        for response in [
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
            let text = format!("{response:?}");
            let kind = kind_for(response).await;
            assert_eq!(kind, DiscoveryErrorKind::Protocol, "{text}");
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
