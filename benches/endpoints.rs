//! The endpoints of `api` over loopback: `/verify` beside a handler that does nothing, and the list of
//! the management API.
//!
//! The server has one thread and the client another one, so the figures are those of one core. Turns of
//! a tenth of a second alternate. The ratio is the median of those of the turns.
//!
//! A run prints the ratio and its goal at the end.

#[path = "support/mode.rs"]
mod mode;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use benches::results::{Goal, Results};
use http::header::CACHE_CONTROL;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tower_service_token::api::forward_auth::ForwardAuth;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::registry::{LastUsed, TokenRegistry};
use tower_service_token::store::CachedStore;
use tower_service_token::store::sql::SqliteStore;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

const CONNECTIONS: usize = 8;
const TOKENS: usize = 50;
const TURN: Duration = Duration::from_millis(100);

/// An app on its own thread, with the secret of a token that may read the tokens.
struct App {
    address: SocketAddr,
    secret: String,
}

fn main() {
    let turns = if mode::is_full_run() { 41 } else { 1 };
    let folder = std::env::temp_dir().join(format!("endpoints-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the folder is new");
    let path = folder.join("tokens.db");
    let memory = serve(async || MemoryStore::new());
    let sqlite = serve(async move || SqliteStore::open(path).await.expect("a new file"));
    let client = runtime();
    let mut results = Results::new("endpoints");
    for (name, app) in [("memory", &memory), ("SQLite", &sqlite)] {
        let mut rates = [const { Vec::new() }; 4];
        let mut ratios = Vec::new();
        for _ in 0..turns {
            let paths = [
                "healthz",
                "verify",
                "service-tokens",
                "service-tokens?limit=1",
            ];
            let turn = paths.map(|path| client.block_on(requests_per_second(app, path)));
            ratios.push(turn[1] / turn[0]);
            for (rates, rate) in rates.iter_mut().zip(turn) {
                rates.push(rate);
            }
        }
        let [healthz, verify, list, one] = rates.map(median);
        println!("{name}: {healthz:.0} /healthz/s, {verify:.0} /verify/s");
        println!("{list:.0} lists of {TOKENS} tokens/s, {one:.0} of one");
        results.ratio(
            format!("throughput of `/verify` to that of a handler that does nothing, over {name}"),
            median(ratios),
            Goal::AtLeast(0.92),
        );
        results.add(
            format!("lists of {TOKENS} tokens per second, over {name}"),
            list,
            Goal::None,
        );
    }
    results.finish();
    std::fs::remove_dir_all(&folder).expect("the folder exists");
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

fn serve<S: TokenRegistry>(store: impl AsyncFnOnce() -> S + Send + 'static) -> App {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let (router, secret) = router(store().await).await;
            let listener = TcpListener::bind(("127.0.0.1", 0)).await;
            let listener = listener.expect("a free port");
            let address = listener.local_addr().expect("an address");
            send.send(App { address, secret })
                .expect("the main thread waits");
            axum::serve(listener, router)
                .await
                .expect("the socket is open");
        });
    });
    receive.recv().expect("the app starts")
}

async fn router(store: impl TokenRegistry) -> (Router, String) {
    let store = CachedStore::new(store).with_ttl(Duration::from_secs(3600));
    let tokens = ServiceTokens::new(store.clone());
    let reader = NewToken::new("reader").with_scopes(["service-tokens:read"]);
    let reader = tokens.create(reader).await.expect("a new token");
    for number in 1..TOKENS {
        let new = NewToken::new(format!("token {number}"))
            .with_roles(["deployer", "auditor"])
            .with_scopes([format!("projects:{number}")])
            .with_label("team", format!("t{number}"));
        let _ = tokens.create(new).await.expect("a new token");
    }
    let layer = ServiceTokenLayer::new(store.clone()).with_last_used(LastUsed::new(store));
    let healthz = get(async || ([(CACHE_CONTROL, "no-store")], "ok\n"));
    let router = Router::new()
        .route("/healthz", healthz)
        .merge(ManagementApi::new(tokens, layer.clone()).into_router())
        .merge(ForwardAuth::new(layer).into_router());
    (router, reader.expose_secret().to_owned())
}

async fn requests_per_second(app: &App, path: &str) -> f64 {
    let request = format!(
        "GET /{path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\n\r\n",
        app.secret
    );
    let started = Instant::now();
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        connections.spawn(send_until(app.address, request.clone(), started + TURN));
    }
    let responses: u32 = connections.join_all().await.into_iter().sum();
    f64::from(responses) / started.elapsed().as_secs_f64()
}

async fn send_until(address: SocketAddr, request: String, end: Instant) -> u32 {
    let connection = TcpStream::connect(address).await;
    let mut connection = connection.expect("the app listens");
    connection.set_nodelay(true).expect("a TCP socket");
    let mut response = Vec::with_capacity(64 * 1024);
    let mut responses = 0;
    while responses == 0 || Instant::now() < end {
        let written = connection.write_all(request.as_bytes()).await;
        written.expect("the connection is open");
        response.clear();
        while !is_complete(&response) {
            let read = connection.read_buf(&mut response).await;
            assert_ne!(read.expect("the connection is open"), 0);
        }
        assert!(response.starts_with(b"HTTP/1.1 200"));
        responses += 1;
    }
    responses
}

fn is_complete(response: &[u8]) -> bool {
    let Some(end) = response.windows(4).position(|part| part == b"\r\n\r\n") else {
        return false;
    };
    let head = str::from_utf8(&response[..end]).expect("ASCII");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.parse().expect("a number"));
    response.len() == end + 4 + length
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
