//! Which connection is closed when the limit is reached.

use std::net::{IpAddr, SocketAddr};

use futures::future::join_all;
use http::Request;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::http1::{self, HttpRequest};
use crate::node::Node;
use crate::readiness::wait_for_gauge;
use crate::store_fixture::StoreFixture;

const LIMIT: usize = 8;

async fn start_limited(fixture: &StoreFixture) -> (Node, String) {
    Node::bootstrap(fixture, &["--max-connections", &LIMIT.to_string()]).await
}

/// Opens a connection and sends one request.
async fn open_idle(address: SocketAddr, path: &str) -> TcpStream {
    open_idle_from([127, 0, 0, 1].into(), address, path).await
}

async fn open_idle_from(client: IpAddr, address: SocketAddr, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(client, 0)).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let response = http1::exchange(&mut stream, &HttpRequest::get(path).bytes()).await;
    response.unwrap().assert(200);
    stream
}

async fn is_open(stream: &mut TcpStream) -> bool {
    let request = HttpRequest::get("/healthz").bytes();
    http1::exchange(stream, &request).await.is_ok()
}

pub(crate) async fn longest_idle_connection_is_closed_at_the_limit(fixture: StoreFixture) {
    let (node, token) = start_limited(&fixture).await;
    let mut streams = Vec::new();
    for _ in 0..LIMIT {
        streams.push(open_idle(node.address, "/healthz").await);
    }
    // The first connection now has the shortest idle time.
    assert!(is_open(&mut streams[0]).await);
    let get_self = HttpRequest::get("/service-tokens/self").with_key(&token);
    node.send(&get_self).await.assert(200);
    assert!(!is_open(&mut streams[1]).await);
    assert!(is_open(&mut streams[0]).await);
    let metrics = node
        .send(&HttpRequest::get("/metrics"))
        .await
        .assert(200)
        .body;
    let closed = r#"svctok_connections_closed_total{listener="service",reason="full"} "#;
    assert!(metrics.contains(closed), "{metrics}");
    // The closed connection counts until its task has ended.
    let open = r#"svctok_connections{listener="service"}"#;
    wait_for_gauge(&node, open, &LIMIT.to_string()).await;
    node.stop().await;
}

/// Opens an HTTP/2 connection whose client responds to pings, and sends one request.
async fn open_idle_http2(node: &Node) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(node.address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut client, connection) = handshake.unwrap();
    tokio::spawn(connection);
    let health = Request::get("http://svctok.test/healthz");
    let health = health.body(Empty::new()).unwrap();
    assert_eq!(client.send_request(health).await.unwrap().status(), 200);
    client
}

pub(crate) async fn idle_http2_connections_are_closed_at_the_limit(fixture: StoreFixture) {
    let (node, token) = start_limited(&fixture).await;
    let mut clients = Vec::new();
    for _ in 0..LIMIT {
        clients.push(open_idle_http2(&node).await);
    }
    let get_self = HttpRequest::get("/service-tokens/self").with_key(&token);
    for _ in 0..2 * LIMIT {
        node.send(&get_self).await.assert(200);
    }
    node.stop().await;
}

pub(crate) async fn address_with_most_connections_keeps_a_quarter(fixture: StoreFixture) {
    let (node, _) = start_limited(&fixture).await;
    let from = |last: u8| open_idle_from([127, 0, 0, last].into(), node.address, "/healthz");
    // These connections are idle for longer than those of the address with the most connections.
    let mut modest = [from(3).await, from(4).await];
    let mut greedy = Vec::new();
    for _ in 0..LIMIT - modest.len() {
        greedy.push(from(2).await);
    }
    // Further addresses connect until the greedy address has only a quarter of the connections.
    let mut others = Vec::new();
    for other in 5..9 {
        others.push(from(other).await);
    }
    // A new connection from this address now replaces one of its own.
    greedy.push(from(2).await);
    let open = join_all(greedy.iter_mut().map(is_open)).await;
    assert_eq!(open, [false, false, false, false, false, true, true]);
    assert_eq!(join_all(modest.iter_mut().map(is_open)).await, [true; 2]);
    assert_eq!(join_all(others.iter_mut().map(is_open)).await, [true; 4]);
    node.stop().await;
}

pub(crate) async fn idle_connections_do_not_block_metrics(fixture: StoreFixture) {
    let mut node = Node::start(&fixture, &["--metrics-listen", "127.0.0.1:0"]).await;
    let line = node.wait_for_log("metrics on http://").await;
    let address = line.rsplit("//").next().unwrap().trim().parse().unwrap();
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(open_idle(address, "/metrics").await);
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        HttpRequest::get(path).send(address).await.assert(200);
    }
    node.stop().await;
}

pub(crate) async fn requests_succeed_during_a_connection_flood(fixture: StoreFixture) {
    let (node, token) = start_limited(&fixture).await;
    let get_self = HttpRequest::get("/service-tokens/self")
        .with_key(&token)
        .bytes();
    let mut flood = Vec::new();
    for _ in 0..8 {
        // Half of the connections send nothing, the other half sends an incomplete request.
        for _ in 0..LIMIT {
            flood.push(TcpStream::connect(node.address).await.unwrap());
            let mut stream = TcpStream::connect(node.address).await.unwrap();
            stream
                .write_all(b"POST /revoke HTTP/1.1\r\n")
                .await
                .unwrap();
            flood.push(stream);
        }
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        let response = http1::exchange(&mut stream, &get_self).await.unwrap();
        response.assert(200);
    }
    // The oldest connection of the flood is closed.
    let mut rest = Vec::new();
    let _ = flood[0].read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
    node.stop().await;
}
