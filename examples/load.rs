//! Measures the cost of the layer end to end: axum over loopback, alternately with and without it.
//!
//! Run `cargo run --release --example load`. Each turn sends requests over keep-alive connections
//! for a tenth of a second. Compare the medians of the turns' ratios: client and server share the
//! machine, so the absolute request rates say little.
//!
//! *Least* is the least possible check: one header, one SHA-256, one lookup, one insertion. It
//! reads the first of repeated headers, compares as a map does, cannot change its tokens and sets
//! no cache headers. It costs what the hash and an axum layer cost on this machine.

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::future::{Either, Ready, ready};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::Service;
use tower::layer::layer_fn;
use tower_service_token::store::TokenRecord;
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, ServiceTokenLayer};

const CONNECTIONS: usize = 8;
const ROUND: Duration = Duration::from_millis(100);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let turns = match std::env::args().nth(1) {
        Some(turns) => turns.parse().map_err(|_| "usage: load [TURNS]")?,
        None => 61,
    };
    let store = MemoryStore::new();
    let token = TokenFormat::default().mint()?;
    store.insert(TokenRecord::from(&token).with_roles(["deployer"]))?;
    let router = || Router::new().route("/", get(async || "ok"));
    let known = Arc::new(HashMap::from([(
        Sha256::digest(token.expose_secret()).into(),
        "deployer".into(),
    )]));
    let least = layer_fn(move |inner| MinimalAuth {
        inner,
        known: Arc::clone(&known),
    });
    let bare = serve(router()).await?;
    let least = serve(router().layer(least)).await?;
    let protected = serve(router().layer(ServiceTokenLayer::new(store))).await?;
    let request = format!(
        "GET / HTTP/1.1\r\nhost: localhost\r\nauthorization: ApiKey {}\r\n\r\n",
        token.expose_secret()
    );

    let mut ratios = [const { Vec::new() }; 3];
    for _ in 0..turns {
        let without = measure_round(bare, &request).await?;
        let least = measure_round(least, &request).await?;
        let with = measure_round(protected, &request).await?;
        println!("{without:9.0} requests/s without, {least:9.0} with the least, {with:9.0} with");
        for (ratios, ratio) in
            ratios
                .iter_mut()
                .zip([with / without, least / without, with / least])
        {
            ratios.push(ratio);
        }
    }
    let [with, least, of_least] = ratios.map(median);
    println!("ratio with / without = {with:.3} (goal >= 0.97)");
    println!("ratio least / without = {least:.3}, with / least = {of_least:.3} (no goals)");
    Ok(())
}

fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Accepts requests with a known token and checks nothing else.
#[derive(Clone)]
struct MinimalAuth<S> {
    inner: S,
    known: Arc<HashMap<[u8; 32], Arc<str>>>,
}

impl<S> MinimalAuth<S> {
    fn identify(&self, request: &Request) -> Option<Arc<str>> {
        let value = request.headers().get(AUTHORIZATION)?;
        let digest = Sha256::digest(value.as_bytes().strip_prefix(b"ApiKey ")?);
        self.known.get(&*digest).cloned()
    }
}

impl<S: Service<Request, Response = Response>> Service<Request> for MinimalAuth<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<std::result::Result<Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let Some(identity) = self.identify(&request) else {
            let rejection = StatusCode::UNAUTHORIZED.into_response();
            return Either::Right(ready(Ok(rejection)));
        };
        request.extensions_mut().insert(identity);
        Either::Left(self.inner.call(request))
    }
}

async fn serve(router: Router) -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// Returns the requests per second of one turn.
async fn measure_round(address: SocketAddr, request: &str) -> Result<f64> {
    let started = Instant::now();
    let mut connections = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let request = request.to_owned();
        connections.spawn(async move { send_until(address, &request, started + ROUND).await });
    }
    let mut responses = 0;
    while let Some(connection) = connections.join_next().await {
        responses += connection??;
    }
    Ok(f64::from(responses) / started.elapsed().as_secs_f64())
}

/// Sends at least one request, even if it starts after the deadline.
async fn send_until(address: SocketAddr, request: &str, end: Instant) -> Result<u32> {
    let mut connection = TcpStream::connect(address).await?;
    connection.set_nodelay(true)?;
    let mut response = Vec::with_capacity(1024);
    let mut responses = 0;
    loop {
        connection.write_all(request.as_bytes()).await?;
        response.clear();
        while !response.ends_with(b"\r\n\r\nok") {
            if connection.read_buf(&mut response).await? == 0 {
                return Err("the server closed the connection".into());
            }
            if response.len() > 12 && !response.starts_with(b"HTTP/1.1 200") {
                return Err("the server rejected a request".into());
            }
        }
        responses += 1;
        if Instant::now() >= end {
            return Ok(responses);
        }
    }
}
