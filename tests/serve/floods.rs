//! Clients without a token that do not read responses and do not finish requests.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{join_all, poll_fn};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream, client};
use http::Request;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::node::Node;
use crate::place::Place;
use crate::stall::Stopwatch;
use crate::wire::Call;

const CONNECTIONS: usize = 60;

/// Tried on each connection.
const STREAMS: usize = 200;

/// How long streams are opened: more than it takes to open as many as the server allows.
const OPENING: Duration = Duration::from_secs(3);

const MAX_GROWTH: u64 = 64 * 1024 * 1024;

const GOOD_REQUESTS: usize = 100;

const MIN_ANSWERED: usize = 95;

const WITHIN: Duration = Duration::from_millis(100);

/// A client's end of a stream, kept as it is.
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
            // Waits for ever beyond the server's limit.
            let Ok(Ok(mut ready)) = timeout(WITHIN, client.clone().ready()).await else {
                break;
            };
            streams.extend(open(&mut ready).await);
        }
        (client, streams)
    });
    join_all(connections).await
}

/// Sends good requests, and asserts what the flood has cost.
async fn assert_unharmed(node: &Node, token: &str, before: u64) {
    let own = Call::get("/service-tokens/self").with_key(token);
    let mut highest = node.resident_memory();
    let mut answered = 0;
    for _ in 0..GOOD_REQUESTS {
        let watch = Stopwatch::start();
        let answer = own.try_send(node.address).await;
        let is_good = answer.is_ok_and(|answer| answer.status == 200);
        answered += usize::from(is_good && watch.unstalled() <= WITHIN);
        highest = highest.max(node.resident_memory());
    }
    let growth = highest.saturating_sub(before);
    assert!(growth <= MAX_GROWTH, "{} MiB", growth >> 20);
    assert!(answered >= MIN_ANSWERED, "{answered} of {GOOD_REQUESTS}");
}

pub(crate) async fn unread_responses_do_not_fill_the_memory(place: Place) {
    let (node, token) = Node::administrator(&place, &[]).await;
    let before = node.resident_memory();
    let held = flood(&node, async |client| unread(client, "/openapi.json").await).await;
    assert_unharmed(&node, &token, before).await;
    drop(held);
    node.stop().await;
}

pub(crate) async fn unread_metrics_do_not_fill_the_memory(place: Place) {
    let (node, token) = Node::administrator(&place, &[]).await;
    let before = node.resident_memory();
    let held = flood(&node, async |client| unread(client, "/metrics").await).await;
    assert_unharmed(&node, &token, before).await;
    drop(held);
    node.stop().await;
}

pub(crate) async fn unfinished_requests_do_not_fill_the_memory(place: Place) {
    let (node, token) = Node::administrator(&place, &[]).await;
    let before = node.resident_memory();
    let held = flood(&node, async |client| unfinished(client, "/revoke").await).await;
    assert_unharmed(&node, &token, before).await;
    drop(held);
    node.stop().await;
}

pub(crate) async fn unread_http1_responses_do_not_fill_the_memory(place: Place) {
    let (node, token) = Node::administrator(&place, &[]).await;
    let before = node.resident_memory();
    let requests = Call::get("/openapi.json").bytes().repeat(STREAMS);
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
