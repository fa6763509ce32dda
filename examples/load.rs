//! What the layer costs end to end: axum over loopback, with and without it, by turns.
//!
//! `cargo run --release --example load`. Each turn sends requests over keep-alive connections for
//! half a second; the median of the turns' ratios is what to look at. Load and server share the
//! machine, so the numbers of requests say little.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower_service_token::store::TokenRecord;
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, ServiceTokenLayer};

const CONNECTIONS: usize = 8;
const TURN: Duration = Duration::from_millis(500);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let turns = match std::env::args().nth(1) {
        Some(turns) => turns.parse().map_err(|_| "usage: load [TURNS]")?,
        None => 21,
    };
    let store = MemoryStore::new();
    let token = TokenFormat::default().mint()?;
    store.insert(TokenRecord::from(&token).with_roles(["deployer"]))?;
    let router = || Router::new().route("/", get(async || "ok"));
    let bare = serve(router()).await?;
    let protected = serve(router().layer(ServiceTokenLayer::new(store))).await?;
    let request = format!(
        "GET / HTTP/1.1\r\nhost: localhost\r\nauthorization: ApiKey {}\r\n\r\n",
        token.expose_secret()
    );

    let mut ratios = Vec::new();
    for _ in 0..turns {
        let without = turn(bare, &request).await?;
        let with = turn(protected, &request).await?;
        println!("{without:9.0} requests/s without, {with:9.0} with");
        ratios.push(with / without);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(ratios.len() / 2).ok_or("no turn at all")?;
    println!("ratio with / without = {median:.3} (goal >= 0.97)");
    Ok(())
}

async fn serve(router: Router) -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// Requests in a second.
async fn turn(address: SocketAddr, request: &str) -> Result<f64> {
    let started = Instant::now();
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let request = request.to_owned();
        connections.spawn(async move { send_until(address, &request, started + TURN).await });
    }
    let mut answered = 0;
    while let Some(connection) = connections.join_next().await {
        answered += connection??;
    }
    Ok(f64::from(answered) / started.elapsed().as_secs_f64())
}

async fn send_until(address: SocketAddr, request: &str, end: Instant) -> Result<u32> {
    let mut connection = TcpStream::connect(address).await?;
    connection.set_nodelay(true)?;
    let mut answer = Vec::with_capacity(1024);
    let mut answered = 0;
    while Instant::now() < end {
        connection.write_all(request.as_bytes()).await?;
        answer.clear();
        while !answer.ends_with(b"\r\n\r\nok") {
            if connection.read_buf(&mut answer).await? == 0 {
                return Err("the server closed the connection".into());
            }
            if answer.len() > 12 && !answer.starts_with(b"HTTP/1.1 200") {
                return Err("the server refused a request".into());
            }
        }
        answered += 1;
    }
    Ok(answered)
}
