//! Clients without a valid token that open many streams, do not read responses or do not finish requests.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{join_all, poll_fn};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream, client};
use http::Request;
use test_support::stall::Stopwatch;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower_service_token::token::TokenFormat;

use crate::http1::{self, HttpRequest, HttpResponse};
use crate::node::Node;
use crate::store_fixture::StoreFixture;

const CONNECTIONS: usize = 60;

/// The number of streams that a client tries to open on each connection.
const STREAMS: usize = 200;

/// The time in which clients open streams. It is long enough to reach the limits of the server.
const OPENING_TIME: Duration = Duration::from_secs(3);

/// The maximum growth of the resident memory, in bytes.
const MAX_GROWTH: u64 = 64 * 1024 * 1024;

const VALID_REQUESTS: usize = 100;

const MIN_SUCCESSES: usize = 95;

const MAX_LATENCY: Duration = Duration::from_millis(100);

/// A client's end of a stream, which stays open.
enum Stream {
    Unread(#[expect(dead_code, reason = "keeps the stream open")] RecvStream),
    Unfinished {
        #[expect(dead_code, reason = "keeps the stream open")]
        body: SendStream<Bytes>,
        #[expect(dead_code, reason = "keeps the stream open")]
        response: ResponseFuture,
    },
}

async fn connect(node: &Node) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(node.address).await.unwrap();
    let (client, connection) = client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn open_unread_stream(client: &mut SendRequest<Bytes>, path: &str) -> Option<Stream> {
    let request = Request::get(format!("http://svctok.test{path}"));
    let (response, _) = client.send_request(request.body(()).unwrap(), true).ok()?;
    let response = response.await.ok()?;
    Some(Stream::Unread(response.into_body()))
}

async fn open_unfinished_stream(client: &mut SendRequest<Bytes>, path: &str) -> Option<Stream> {
    let request = Request::post(format!("http://svctok.test{path}"))
        .header("content-type", "application/x-www-form-urlencoded");
    let sent = client.send_request(request.body(()).unwrap(), false);
    let (response, mut body) = sent.ok()?;
    let part = Bytes::from(vec![b'x'; 60_000]);
    body.reserve_capacity(part.len());
    let _ = timeout(MAX_LATENCY, poll_fn(|cx| body.poll_capacity(cx))).await;
    body.send_data(part, false).ok()?;
    Some(Stream::Unfinished { body, response })
}

/// Opens as many connections and streams as the server allows.
async fn flood(
    node: &Node,
    open: impl AsyncFn(&mut SendRequest<Bytes>) -> Option<Stream>,
) -> Vec<(SendRequest<Bytes>, Vec<Stream>)> {
    let started_at = Instant::now();
    let connections = (0..CONNECTIONS).map(async |_| {
        let client = connect(node).await;
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            if started_at.elapsed() > OPENING_TIME {
                break;
            }
            // Beyond the stream limit of the server, the client never becomes ready.
            let Ok(Ok(mut ready)) = timeout(MAX_LATENCY, client.clone().ready()).await else {
                break;
            };
            streams.extend(open(&mut ready).await);
        }
        (client, streams)
    });
    join_all(connections).await
}

/// Sends valid requests during a flood. Asserts their success rate and the memory growth.
async fn assert_available(node: &Node, token: &str, before: u64) {
    let get_self = HttpRequest::get("/service-tokens/self").with_key(token);
    let mut highest = node.resident_memory();
    let mut succeeded = 0;
    for _ in 0..VALID_REQUESTS {
        let watch = Stopwatch::start();
        let response = get_self.try_send(node.address).await;
        let is_success = response.is_ok_and(|response| response.status == 200);
        succeeded += usize::from(is_success && watch.elapsed_without_stalls() <= MAX_LATENCY);
        highest = highest.max(node.resident_memory());
    }
    let growth = highest.saturating_sub(before);
    assert!(growth <= MAX_GROWTH, "{} MiB", growth >> 20);
    assert!(
        succeeded >= MIN_SUCCESSES,
        "{succeeded} of {VALID_REQUESTS}"
    );
}

pub(crate) async fn unread_responses_do_not_exhaust_memory(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    let before = node.resident_memory();
    let flood = flood(&node, async |client| {
        open_unread_stream(client, "/openapi.json").await
    })
    .await;
    assert_available(&node, &token, before).await;
    drop(flood);
    node.stop().await;
}

pub(crate) async fn unread_metrics_do_not_exhaust_memory(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    let before = node.resident_memory();
    let flood = flood(&node, async |client| {
        open_unread_stream(client, "/metrics").await
    })
    .await;
    assert_available(&node, &token, before).await;
    drop(flood);
    node.stop().await;
}

pub(crate) async fn unfinished_requests_do_not_exhaust_memory(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    let before = node.resident_memory();
    let flood = flood(&node, async |client| {
        open_unfinished_stream(client, "/revoke").await
    })
    .await;
    assert_available(&node, &token, before).await;
    drop(flood);
    node.stop().await;
}

pub(crate) async fn unread_http1_responses_do_not_exhaust_memory(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    let before = node.resident_memory();
    let requests = HttpRequest::get("/openapi.json").bytes().repeat(STREAMS);
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        // The server stops reading when it cannot write.
        let _ = timeout(MAX_LATENCY, stream.write_all(&requests)).await;
        streams.push(stream);
    }
    assert_available(&node, &token, before).await;
    drop(streams);
    node.stop().await;
}

/// Enough connections that their streams exceed the limit of the server.
const BUSY_CONNECTIONS: usize = 250;

/// The number of streams that the server allows per connection.
const BUSY_STREAMS: usize = 16;

/// Keeps all streams of a connection busy with well-formed unknown tokens.
async fn send_unknown_tokens(address: SocketAddr) {
    loop {
        let Ok(stream) = TcpStream::connect(address).await else {
            continue;
        };
        let Ok((client, connection)) = client::handshake(stream).await else {
            continue;
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(connection.await) });
        for _ in 0..BUSY_STREAMS {
            let client = client.clone();
            tasks.spawn(async move { while send_unknown_token(&client).await.is_ok() {} });
        }
        // The server closes the connection after some rejections, which have `retry-after: 1`.
        tasks.join_all().await;
        sleep(Duration::from_secs(1)).await;
    }
}

async fn send_unknown_token(client: &SendRequest<Bytes>) -> Result<(), h2::Error> {
    let mut client = client.clone().ready().await?;
    let unknown = TokenFormat::default().mint().unwrap();
    let request = Request::get("http://svctok.test/verify");
    let request = request.header("x-api-key", unknown.expose_secret());
    let (response, _) = client.send_request(request.body(()).unwrap(), true)?;
    response.await.map(drop)
}

/// Sends a request from an address that the flood does not use.
async fn send_from_other_address(address: SocketAddr, request: &HttpRequest) -> HttpResponse {
    let socket = TcpSocket::new_v4().unwrap();
    let client = IpAddr::from([127, 0, 0, 9]);
    socket.bind(SocketAddr::new(client, 0)).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let response = http1::exchange(&mut stream, &request.bytes()).await;
    response.unwrap()
}

pub(crate) async fn one_address_does_not_starve_others(fixture: StoreFixture) {
    let flags = ["--metrics-listen", "127.0.0.1:0"];
    let (mut node, token) = Node::bootstrap(&fixture, &flags).await;
    let line = node.wait_for_log("metrics on http://").await;
    let metrics = line.rsplit("//").next().unwrap().trim().parse().unwrap();
    let verify = HttpRequest::get("/verify").with_key(&token);
    let health = HttpRequest::get("/healthz");
    let mut flood = JoinSet::new();
    for _ in 0..BUSY_CONNECTIONS {
        flood.spawn(send_unknown_tokens(node.address));
    }
    // The node rejects requests of the flood as soon as it uses its whole share.
    let rejected = node
        .wait_for_log("cause=\"in-flight budget exhausted\"")
        .await;
    assert!(rejected.contains("ERROR"), "{rejected}");
    assert!(rejected.contains("request_id="), "{rejected}");
    let mut succeeded = 0;
    for _ in 0..VALID_REQUESTS / 4 {
        for (address, request) in [(node.address, &health), (metrics, &health)] {
            send_from_other_address(address, request).await.assert(200);
        }
        let response = send_from_other_address(node.address, &verify).await;
        // A lookup that times out on a busy machine is a 503 with a body.
        let is_rejected = response.status == 503 && response.body.is_empty();
        assert!(!is_rejected, "{}", response.head);
        succeeded += usize::from(response.status == 200);
    }
    assert!(
        succeeded * 100 >= MIN_SUCCESSES * (VALID_REQUESTS / 4),
        "{succeeded}"
    );
    let metrics = send_from_other_address(metrics, &HttpRequest::get("/metrics")).await;
    let counted = r#"svctok_http_requests_total{method="GET",status="503"} "#;
    assert!(metrics.body.contains(counted), "{}", metrics.body);
    // The log has at most ten such lines per second, and then one with the number of the others.
    node.wait_for_log("in-flight budget exhausted, rejecting requests")
        .await;
    flood.shutdown().await;
    node.stop().await;
}
