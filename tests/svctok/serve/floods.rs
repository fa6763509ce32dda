//! Clients without a token that do not read responses and do not finish requests.

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

/// Tried on each connection.
const STREAMS: usize = 200;

/// How long streams are opened: more than it takes to open as many as the server allows.
const OPENING: Duration = Duration::from_secs(3);

const MAX_GROWTH: u64 = 64 * 1024 * 1024;

const GOOD_REQUESTS: usize = 100;

const MIN_ANSWERED: usize = 95;

const WITHIN: Duration = Duration::from_millis(100);

/// A client's end of a stream, which stays open.
enum Stream {
    Unread(#[expect(dead_code, reason = "kept open")] RecvStream),
    Unfinished {
        #[expect(dead_code, reason = "kept open")]
        body: SendStream<Bytes>,
        #[expect(dead_code, reason = "kept open")]
        response: ResponseFuture,
    },
}

async fn connect(node: &Node) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(node.address).await.unwrap();
    let (client, connection) = client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn unread(client: &mut SendRequest<Bytes>, path: &str) -> Option<Stream> {
    let request = Request::get(format!("http://svctok.test{path}"));
    let (response, _) = client.send_request(request.body(()).unwrap(), true).ok()?;
    let response = response.await.ok()?;
    Some(Stream::Unread(response.into_body()))
}

async fn unfinished(client: &mut SendRequest<Bytes>, path: &str) -> Option<Stream> {
    let request = Request::post(format!("http://svctok.test{path}"))
        .header("content-type", "application/x-www-form-urlencoded");
    let sent = client.send_request(request.body(()).unwrap(), false);
    let (response, mut body) = sent.ok()?;
    let part = Bytes::from(vec![b'x'; 60_000]);
    body.reserve_capacity(part.len());
    let _ = timeout(WITHIN, poll_fn(|cx| body.poll_capacity(cx))).await;
    body.send_data(part, false).ok()?;
    Some(Stream::Unfinished { body, response })
}

/// Opens as many streams as the server allows, on as many connections.
async fn flood(
    node: &Node,
    open: impl AsyncFn(&mut SendRequest<Bytes>) -> Option<Stream>,
) -> Vec<(SendRequest<Bytes>, Vec<Stream>)> {
    let begun = Instant::now();
    let connections = (0..CONNECTIONS).map(async |_| {
        let client = connect(node).await;
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            if begun.elapsed() > OPENING {
                break;
            }
            // Never completes beyond the server's limit.
            let Ok(Ok(mut ready)) = timeout(WITHIN, client.clone().ready()).await else {
                break;
            };
            streams.extend(open(&mut ready).await);
        }
        (client, streams)
    });
    join_all(connections).await
}

/// Sends valid requests, and asserts the cost of the flood.
async fn assert_unharmed(node: &Node, token: &str, before: u64) {
    let own = HttpRequest::get("/service-tokens/self").with_key(token);
    let mut highest = node.resident_memory();
    let mut answered = 0;
    for _ in 0..GOOD_REQUESTS {
        let watch = Stopwatch::start();
        let answer = own.try_send(node.address).await;
        let is_good = answer.is_ok_and(|answer| answer.status == 200);
        answered += usize::from(is_good && watch.elapsed_without_stalls() <= WITHIN);
        highest = highest.max(node.resident_memory());
    }
    let growth = highest.saturating_sub(before);
    assert!(growth <= MAX_GROWTH, "{} MiB", growth >> 20);
    assert!(answered >= MIN_ANSWERED, "{answered} of {GOOD_REQUESTS}");
}

pub(crate) async fn unread_responses_do_not_fill_the_memory(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    let before = node.resident_memory();
    let held = flood(&node, async |client| unread(client, "/openapi.json").await).await;
    assert_unharmed(&node, &token, before).await;
    drop(held);
    node.stop().await;
}

pub(crate) async fn unread_metrics_do_not_fill_the_memory(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    let before = node.resident_memory();
    let held = flood(&node, async |client| unread(client, "/metrics").await).await;
    assert_unharmed(&node, &token, before).await;
    drop(held);
    node.stop().await;
}

pub(crate) async fn unfinished_requests_do_not_fill_the_memory(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    let before = node.resident_memory();
    let held = flood(&node, async |client| unfinished(client, "/revoke").await).await;
    assert_unharmed(&node, &token, before).await;
    drop(held);
    node.stop().await;
}

pub(crate) async fn unread_http1_responses_do_not_fill_the_memory(fixture: StoreFixture) {
    let (node, token) = Node::bootstrap(&fixture, &[]).await;
    let before = node.resident_memory();
    let requests = HttpRequest::get("/openapi.json").bytes().repeat(STREAMS);
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        // The server stops reading when it cannot write.
        let _ = timeout(WITHIN, stream.write_all(&requests)).await;
        streams.push(stream);
    }
    assert_unharmed(&node, &token, before).await;
    drop(streams);
    node.stop().await;
}

/// Enough that their streams are more than the server has room for.
const WORKING_CONNECTIONS: usize = 250;

/// What the server allows on each.
const WORKING_STREAMS: usize = 16;

/// Keeps all streams of connections busy with tokens that are well-formed and unknown.
async fn ask_for_unknown_tokens(address: SocketAddr) {
    loop {
        let Ok(stream) = TcpStream::connect(address).await else {
            continue;
        };
        let Ok((client, connection)) = client::handshake(stream).await else {
            continue;
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(connection.await) });
        for _ in 0..WORKING_STREAMS {
            let client = client.clone();
            tasks.spawn(async move { while ask_for_unknown_token(&client).await.is_ok() {} });
        }
        // The server closes the connection after some rejections, which have `retry-after: 1`.
        tasks.join_all().await;
        sleep(Duration::from_secs(1)).await;
    }
}

async fn ask_for_unknown_token(client: &SendRequest<Bytes>) -> Result<(), h2::Error> {
    let mut client = client.clone().ready().await?;
    let unknown = TokenFormat::default().mint().unwrap();
    let request = Request::get("http://svctok.test/verify");
    let request = request.header("x-api-key", unknown.expose_secret());
    let (response, _) = client.send_request(request.body(()).unwrap(), true)?;
    response.await.map(drop)
}

/// Sends a request from another address than all others of this file.
async fn send_from_elsewhere(address: SocketAddr, call: &HttpRequest) -> HttpResponse {
    let socket = TcpSocket::new_v4().unwrap();
    let elsewhere = IpAddr::from([127, 0, 0, 9]);
    socket.bind(SocketAddr::new(elsewhere, 0)).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let answer = http1::exchange(&mut stream, &call.bytes()).await;
    answer.unwrap()
}

pub(crate) async fn one_address_does_not_starve_others(fixture: StoreFixture) {
    let more = ["--metrics-listen", "127.0.0.1:0"];
    let (mut node, token) = Node::bootstrap(&fixture, &more).await;
    let line = node.wait_for_log("metrics on http://").await;
    let metrics = line.rsplit("//").next().unwrap().trim().parse().unwrap();
    let verify = HttpRequest::get("/verify").with_key(&token);
    let health = HttpRequest::get("/healthz");
    let mut flood = JoinSet::new();
    for _ in 0..WORKING_CONNECTIONS {
        flood.spawn(ask_for_unknown_tokens(node.address));
    }
    // Until the flood is rejected, so that it occupies its whole share.
    let rejected = node
        .wait_for_log("cause=\"in-flight budget exhausted\"")
        .await;
    assert!(rejected.contains("ERROR"), "{rejected}");
    assert!(rejected.contains("request_id="), "{rejected}");
    let mut answered = 0;
    for _ in 0..GOOD_REQUESTS / 4 {
        for (address, call) in [(node.address, &health), (metrics, &health)] {
            send_from_elsewhere(address, call).await.assert(200);
        }
        let answer = send_from_elsewhere(node.address, &verify).await;
        // A lookup that takes too long on a busy machine is a 503 with a body.
        let is_rejected = answer.status == 503 && answer.body.is_empty();
        assert!(!is_rejected, "{}", answer.head);
        answered += usize::from(answer.status == 200);
    }
    assert!(
        answered * 100 >= MIN_ANSWERED * (GOOD_REQUESTS / 4),
        "{answered}"
    );
    let metrics = send_from_elsewhere(metrics, &HttpRequest::get("/metrics")).await;
    let counted = r#"svctok_http_requests_total{method="GET",status="503"} "#;
    assert!(metrics.body.contains(counted), "{}", metrics.body);
    // Ten lines per second, and one with the number of the rest.
    node.wait_for_log("in-flight budget exhausted, rejecting requests")
        .await;
    flood.shutdown().await;
    node.stop().await;
}
