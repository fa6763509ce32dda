//! Unknown tokens cost other clients of the same address nothing.

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

/// Connections of the client that sends unknown tokens.
const CONNECTIONS: u32 = 60;

const GOOD_TOKENS: usize = 100;

/// The interval between two first uses of valid tokens.
const PAUSE: Duration = Duration::from_millis(25);

/// A lookup waits for 2 s: with a stall as long as that, a first use may be refused.
const TOLERATED_STALL: Duration = Duration::from_secs(1);

/// The lookups that are allowed per second, and at once after a pause.
const LOOKUPS_PER_SECOND: f64 = 4_000.0;
const LOOKUPS_AT_ONCE: f64 = 400.0;

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

/// Returns the statuses of first uses of valid tokens during a flood, the lookups meanwhile and how
/// many there may be.
async fn first_uses(node: &Node, administrator: &str, per_second: u32) -> (Vec<u16>, f64, f64) {
    let mut good = Vec::new();
    for number in 0..GOOD_TOKENS {
        let body = format!(r#"{{"name":"client-{number}"}}"#);
        let call = HttpRequest::post("/service-tokens", &body).with_key(administrator);
        good.push(node.send(&call).await.assert(201).text("/token"));
    }

    let (started, lookups_before) = (Instant::now(), lookups(node).await);
    let flood = Flood::start(node.address, per_second, CONNECTIONS);
    // Until the address has no budget left.
    sleep(Duration::from_millis(700)).await;
    let mut uses = JoinSet::new();
    for token in good {
        let call = HttpRequest::get("/verify").with_key(&token);
        let address = node.address;
        uses.spawn(async move { call.send(address).await.status });
        sleep(PAUSE).await;
    }
    let statuses = uses.join_all().await;
    let junk = flood.stop().await;
    let seconds = started.elapsed().as_secs_f64();
    let looked_up = lookups(node).await - lookups_before;
    let accepted = statuses.iter().filter(|status| **status == 200).count();
    println!(
        "{junk} unknown tokens in {seconds:.1} s, {looked_up} lookups, {accepted} of {} first uses",
        statuses.len()
    );
    let bound = LOOKUPS_PER_SECOND * seconds + LOOKUPS_AT_ONCE;
    (statuses, looked_up, bound)
}

/// Each way between the service and a database far away.
const LATENCY: Duration = Duration::from_millis(5);

/// Of unknown tokens, so many that a first come, first served store keeps the last one waiting for
/// more than a second.
const MANY_CONNECTIONS: u32 = 800;

/// With a database that answers fewer lookups per second than there are unknown tokens: none of
/// these is answered with 503, which [`Flood`] asserts.
pub(crate) async fn slow_database_still_serves_known_tokens_and_other_addresses(
    fixture: StoreFixture,
) {
    let mut slow = fixture.clone();
    slow.store = delayed(&fixture.store).await;
    let trusted = ["--trusted-proxy", "127.0.0.1"];
    let (node, administrator) = Node::bootstrap(&slow, &trusted).await;
    let post = async |path: &str, body: &str| {
        let call = HttpRequest::post(path, body).with_key(&administrator);
        node.send(&call).await
    };
    let (mut remembered, mut unused) = (Vec::new(), Vec::new());
    for number in 0..20 {
        for tokens in [&mut remembered, &mut unused] {
            let body = format!(r#"{{"name":"client-{number}"}}"#);
            let created = post("/service-tokens", &body).await.assert(201);
            tokens.push((created.text("/service_token/id"), created.text("/token")));
        }
        let (id, token) = &remembered[number];
        node.send(&HttpRequest::get("/verify").with_key(token))
            .await
            .assert(200);
        // Each change evicts it from the cache.
        for change in ["disable", "enable"] {
            let path = format!("/service-tokens/{id}/{change}");
            post(&path, "").await.assert(200);
        }
    }
    let watch = Stopwatch::start();
    let flood = Flood::start(node.address, 3_000, MANY_CONNECTIONS);
    sleep(Duration::from_millis(700)).await;
    let mut uses = JoinSet::new();
    for (remembered, unused) in remembered.into_iter().zip(unused) {
        for (client, (_, token)) in [("192.0.2.1", remembered), ("198.51.100.1", unused)] {
            let call = HttpRequest::get("/verify").with("x-forwarded-for", client);
            let (call, address) = (call.with_key(&token), node.address);
            uses.spawn(async move { call.send(address).await.status });
        }
        sleep(PAUSE).await;
    }
    let statuses = uses.join_all().await;
    flood.stop().await;
    let is_stalled = watch.stalled() > TOLERATED_STALL;
    assert!(is_stalled || statuses == [200; 40], "{statuses:?}");
    node.stop().await;
}

/// Returns the URL of this database with [`LATENCY`] before it.
async fn delayed(url: &str) -> String {
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
    answered: Arc<AtomicU32>,
}

impl Flood {
    fn start(address: SocketAddr, per_second: u32, connections: u32) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU32::new(0));
        let mut workers = JoinSet::new();
        for _ in 0..connections {
            let (stopped, answered) = (Arc::clone(&stopped), Arc::clone(&answered));
            workers.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let mut ticks = interval(Duration::from_secs(1) * connections / per_second);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                while !stopped.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let unknown = TokenFormat::default().mint().unwrap();
                    let call = HttpRequest::get("/verify")
                        .with("x-forwarded-for", "192.0.2.1")
                        .with_key(unknown.expose_secret());
                    let status = exchange(&mut stream, &call.bytes()).await;
                    assert!([401, 429].contains(&status), "{status}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self {
            workers,
            stopped,
            answered,
        }
    }

    /// Returns how many tokens were answered.
    async fn stop(self) -> u32 {
        self.stopped.store(true, Ordering::Relaxed);
        self.workers.join_all().await;
        self.answered.load(Ordering::Relaxed)
    }
}

/// Sends a request and reads the whole response, by chunks: the flood shares a machine with the
/// server that it is to load.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> u16 {
    stream.write_all(request).await.unwrap();
    let (mut response, mut read) = ([0; 4096], 0);
    loop {
        let more = stream.read(&mut response[read..]).await.unwrap();
        assert!(more > 0, "the connection was closed");
        read += more;
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

/// Returns how many lookups of the store have ended.
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
