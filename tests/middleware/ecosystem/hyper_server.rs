use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower::{ServiceBuilder, service_fn};
use tower_service_token::{Principal, ServiceTokenLayer, TokenStore};

use crate::ecosystem::{UnavailableStore, UncachedStore, mint, store_with_token};

async fn name(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let principal = request.extensions().get::<Principal>().unwrap();
    Ok(Response::new(Full::from(principal.name().to_owned())))
}

/// Sends all requests at once over one connection, and reads responses until the server closes it.
async fn pipeline(store: impl TokenStore, requests: &str) -> Vec<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = ServiceBuilder::new()
        .layer(ServiceTokenLayer::new(store))
        .service(service_fn(name));
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let server = auto::Builder::new(TokioExecutor::new()).http1_only();
        let service = TowerToHyperService::new(service);
        let connection = server.serve_connection(TokioIo::new(stream), service);
        connection.await.unwrap();
    };
    let send = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(requests.as_bytes()).await.unwrap();
        let mut responses = String::new();
        stream.read_to_string(&mut responses).await.unwrap();
        responses
    };
    let both = async { tokio::join!(serve, send) };
    let ((), responses) = timeout(Duration::from_secs(30), both).await.unwrap();
    let responses = responses.split("HTTP/1.1 ").skip(1);
    responses.map(str::to_owned).collect()
}

const WITHOUT_TOKEN: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

fn request_with_token(token: &str, connection: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: a\r\nx-api-key: {token}\r\nconnection: {connection}\r\n\r\n")
}

#[tokio::test]
async fn connection_survives_a_rejection() {
    let (store, token) = store_with_token();
    let last = request_with_token(token.expose_secret(), "close");
    let responses = pipeline(store, &format!("{WITHOUT_TOKEN}{last}")).await;
    let [rejected, accepted] = responses.as_slice() else {
        panic!("two responses expected: {responses:?}");
    };
    assert!(rejected.starts_with("401 "), "{rejected}");
    assert!(
        rejected.contains(r#"www-authenticate: ApiKey realm="api""#),
        "{rejected}"
    );
    assert!(!rejected.contains("connection: close"), "{rejected}");
    assert!(rejected.ends_with('}'), "{rejected}");
    assert!(accepted.starts_with("200 "), "{accepted}");
    assert!(accepted.ends_with("\r\n\r\nci"), "{accepted}");
}

#[tokio::test]
async fn principal_does_not_leak_into_the_next_request() {
    let (store, token) = store_with_token();
    let first = request_with_token(token.expose_secret(), "keep-alive");
    let last = WITHOUT_TOKEN.replace("host", "connection: close\r\nhost");
    let responses = pipeline(UncachedStore(store), &format!("{first}{last}")).await;
    assert_eq!(responses.len(), 2, "{responses:?}");
    assert!(responses[0].starts_with("200 "), "{responses:?}");
    assert!(responses[1].starts_with("401 "), "{responses:?}");
}

#[tokio::test]
async fn store_outage_is_503_over_http1() {
    let request = request_with_token(mint().expose_secret(), "close");
    let responses = pipeline(UnavailableStore, &request).await;
    assert_eq!(responses.len(), 1, "{responses:?}");
    assert!(responses[0].starts_with("503 "), "{responses:?}");
    assert!(responses[0].contains("retry-after: 1\r\n"), "{responses:?}");
}
