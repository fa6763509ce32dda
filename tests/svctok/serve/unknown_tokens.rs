//! A flood of unknown tokens does not affect valid tokens from the same address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use test_support::stall::Stopwatch;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tower_service_token::token::TokenFormat;

use crate::http1::HttpRequest;
use crate::node::Node;
use crate::store_fixture::StoreFixture;

/// The number of connections of the client that sends unknown tokens.
const CONNECTIONS: u32 = 60;

const VALID_TOKENS: usize = 100;

/// The interval between two first uses of valid tokens.
const PAUSE: Duration = Duration::from_millis(25);

/// A lookup waits for at most 2 s. After a stall of that length, the node may reject a first use.
const TOLERATED_STALL: Duration = Duration::from_secs(1);

/// The allowed number of lookups per second, and in one burst.
const LOOKUPS_PER_SECOND: f64 = 4_000.0;
const LOOKUP_BURST: f64 = 400.0;

pub(crate) async fn first_uses_succeed_among_300_unknown_tokens_per_second(fixture: StoreFixture) {
    assert_first_uses_succeed(fixture, 300).await;
}

pub(crate) async fn first_uses_succeed_among_3000_unknown_tokens_per_second(fixture: StoreFixture) {
    assert_first_uses_succeed(fixture, 3_000).await;
}

async fn assert_first_uses_succeed(fixture: StoreFixture, per_second: u32) {
    let (node, administrator) = Node::bootstrap(&fixture, &[]).await;
    let mut outcome;
    let mut rounds = 0..5;
    loop {
        let watch = Stopwatch::start();
        outcome = first_uses(&node, &administrator, per_second).await;
        if watch.stalled() <= TOLERATED_STALL || rounds.next().is_none() {
            break;
        }
    }
    let (statuses, lookups, bound) = outcome;
    let accepted = statuses.iter().filter(|status| **status == 200).count();
    assert!(accepted * 100 >= statuses.len() * 99, "{statuses:?}");
    assert!(lookups <= bound, "{lookups} lookups, at most {bound}");
    node.stop().await;
}

/// Uses valid tokens for the first time during a flood. Returns the statuses, the number of lookups and
/// the allowed number.
async fn first_uses(node: &Node, administrator: &str, per_second: u32) -> (Vec<u16>, f64, f64) {
    let mut valid = Vec::new();
    for number in 0..VALID_TOKENS {
        let body = format!(r#"{{"name":"client-{number}"}}"#);
        let request = HttpRequest::post("/service-tokens", &body).with_key(administrator);
        valid.push(node.send(&request).await.assert(201).text("/token"));
    }

    let (started, lookups_before) = (Instant::now(), lookups(node).await);
    let flood = Flood::start(node.address, per_second, CONNECTIONS);
    // The address exhausts its budget in this time.
    sleep(Duration::from_millis(700)).await;
    let mut uses = JoinSet::new();
    for token in valid {
        let request = HttpRequest::get("/verify").with_key(&token);
        let address = node.address;
        uses.spawn(async move { request.send(address).await.status });
        sleep(PAUSE).await;
    }
    let statuses = uses.join_all().await;
    let unknown = flood.stop().await;
    let seconds = started.elapsed().as_secs_f64();
    let looked_up = lookups(node).await - lookups_before;
    let accepted = statuses.iter().filter(|status| **status == 200).count();
    println!(
        "{unknown} unknown tokens in {seconds:.1} s, {looked_up} lookups, {accepted} of {} first uses",
        statuses.len()
    );
    let bound = LOOKUPS_PER_SECOND * seconds + LOOKUP_BURST;
    (statuses, looked_up, bound)
}

/// The delay in each direction between the service and a remote database.
const LATENCY: Duration = Duration::from_millis(5);

/// The number of connections of a flood that would make the last lookup of a first-come, first-served
/// queue wait for more than 1 s.
const MANY_CONNECTIONS: u32 = 800;

/// The database completes fewer lookups per second than unknown tokens arrive. [`Flood`] asserts that
/// no unknown token gets a 503 response.
pub(crate) async fn slow_database_does_not_affect_known_tokens_and_other_addresses(
    fixture: StoreFixture,
) {
    let mut slow = fixture.clone();
    slow.store = start_delaying_proxy(&fixture.store).await;
    let trusted = ["--trusted-proxy", "127.0.0.1"];
    let (node, administrator) = Node::bootstrap(&slow, &trusted).await;
    let post = async |path: &str, body: &str| {
        let request = HttpRequest::post(path, body).with_key(&administrator);
        node.send(&request).await
    };
    let (mut evicted, mut unused) = (Vec::new(), Vec::new());
    for number in 0..20 {
        for tokens in [&mut evicted, &mut unused] {
            let body = format!(r#"{{"name":"client-{number}"}}"#);
            let created = post("/service-tokens", &body).await.assert(201);
            tokens.push((created.text("/service_token/id"), created.text("/token")));
        }
        let (id, token) = &evicted[number];
        node.send(&HttpRequest::get("/verify").with_key(token))
            .await
            .assert(200);
        // Each change evicts the token from the cache.
        for change in ["disable", "enable"] {
            let path = format!("/service-tokens/{id}/{change}");
            post(&path, "").await.assert(200);
        }
    }
    let watch = Stopwatch::start();
    let flood = Flood::start(node.address, 3_000, MANY_CONNECTIONS);
    sleep(Duration::from_millis(700)).await;
    let mut uses = JoinSet::new();
    for (evicted, unused) in evicted.into_iter().zip(unused) {
        for (client, (_, token)) in [("192.0.2.1", evicted), ("198.51.100.1", unused)] {
            let request = HttpRequest::get("/verify").with("x-forwarded-for", client);
            let (request, address) = (request.with_key(&token), node.address);
            uses.spawn(async move { request.send(address).await.status });
        }
        sleep(PAUSE).await;
    }
    let statuses = uses.join_all().await;
    flood.stop().await;
    let is_stalled = watch.stalled() > TOLERATED_STALL;
    assert!(is_stalled || statuses == [200; 40], "{statuses:?}");
    node.stop().await;
}

/// Starts a proxy that adds [`LATENCY`] to this database. Returns the URL of the proxy.
async fn start_delaying_proxy(url: &str) -> String {
    let options: PgConnectOptions = url.parse().unwrap();
    let server = (options.get_host().to_owned(), options.get_port());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(server.clone()).await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::spawn(forward(from_client, to_server));
            tokio::spawn(forward(from_server, to_client));
        }
    });
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, database) = rest.split_once('/').unwrap();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    format!("{scheme}://{user}@{address}/{database}")
}

async fn forward(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; 1 << 14];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        sleep(LATENCY).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// A client that sends well-formed unknown tokens.
struct Flood {
    workers: JoinSet<()>,
    stopped: Arc<AtomicBool>,
    responses: Arc<AtomicU32>,
}

impl Flood {
    fn start(address: SocketAddr, per_second: u32, connections: u32) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let responses = Arc::new(AtomicU32::new(0));
        let mut workers = JoinSet::new();
        for _ in 0..connections {
            let (stopped, responses) = (Arc::clone(&stopped), Arc::clone(&responses));
            workers.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let mut ticks = interval(Duration::from_secs(1) * connections / per_second);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                while !stopped.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let unknown = TokenFormat::default().mint().unwrap();
                    let request = HttpRequest::get("/verify")
                        .with("x-forwarded-for", "192.0.2.1")
                        .with_key(unknown.expose_secret());
                    let status = exchange(&mut stream, &request.bytes()).await;
                    assert!([401, 429].contains(&status), "{status}");
                    responses.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self {
            workers,
            stopped,
            responses,
        }
    }

    /// Stops the flood. Returns the number of responses.
    async fn stop(self) -> u32 {
        self.stopped.store(true, Ordering::Relaxed);
        self.workers.join_all().await;
        self.responses.load(Ordering::Relaxed)
    }
}

/// Sends a request and reads the whole response. It reads chunks instead of single bytes, because the
/// flood shares the CPU with the server.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> u16 {
    stream.write_all(request).await.unwrap();
    let (mut response, mut read) = ([0; 4096], 0);
    loop {
        let chunk = stream.read(&mut response[read..]).await.unwrap();
        assert!(chunk > 0, "the connection was closed");
        read += chunk;
        let text = std::str::from_utf8(&response[..read]).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let (_, length) = head.split_once("content-length: ").unwrap();
        let length = length
            .split_once("\r\n")
            .map_or(length, |(length, _)| length);
        if body.len() == length.parse::<usize>().unwrap() {
            return head[9..12].parse().unwrap();
        }
    }
}

/// Returns the number of completed lookups.
async fn lookups(node: &Node) -> f64 {
    let metrics = node
        .send(&HttpRequest::get("/metrics"))
        .await
        .assert(200)
        .body;
    let lines = metrics.lines();
    let counts = lines.filter(|line| line.starts_with("service_token_cache_lookups_total"));
    let values = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}
