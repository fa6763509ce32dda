//! Two nodes of a service that share their tokens by PostgreSQL: created on one, used on the other,
//! revoked on the one, and refused on the other.
//!
//! `DATABASE_URL=postgres://user@localhost/tokens cargo run --example postgres --features postgres`.
//! The tables `service_token…` are made in that database. Both nodes are in this process, but know
//! each other by the database alone, as if they were two.

use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::get;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tower_service_token::lifecycle::NewToken;
use tower_service_token::store::CachedStore;
use tower_service_token::store::sql::PostgresStore;
use tower_service_token::{Principal, ServiceTokenLayer, ServiceTokens};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = error.source().map(|it| format!(": {it}"));
            eprintln!("postgres: {error}{}", cause.unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}

/// A server, and the tokens as it manages them.
struct Node {
    address: SocketAddr,
    tokens: ServiceTokens,
    client: Client<HttpConnector, Body>,
}

impl Node {
    async fn start(url: &str) -> Result<Self, Box<dyn Error>> {
        // Each has connections of its own, a cache, and one connection to hear of changes.
        let store = CachedStore::new(PostgresStore::connect(url).await?);
        let app = Router::new()
            .route("/hello", get(hello))
            .route_layer(ServiceTokenLayer::new(store.clone()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self {
            address,
            tokens: ServiceTokens::new(store),
            client: Client::builder(TokioExecutor::new()).build_http(),
        })
    }

    async fn get(&self, token: &str) -> Result<StatusCode, Box<dyn Error>> {
        let request = Request::get(format!("http://{}/hello", self.address))
            .header("authorization", format!("ApiKey {token}"))
            .body(Body::empty())?;
        Ok(self.client.request(request).await?.status())
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let url = env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
    let (a, b) = (Node::start(&url).await?, Node::start(&url).await?);

    let issued = a.tokens.create(NewToken::new("two nodes")).await?;
    let (id, token) = (issued.record().id(), issued.expose_secret());
    println!("node a: created {id}");
    // Remembered from here on.
    println!("node b: {}", b.get(token).await?);

    let revoked = a.tokens.revoke(id).await?;
    let since = Instant::now();
    println!("node a: revoked {id}");
    println!("node a: {}", a.get(token).await?);
    while b.get(token).await? != StatusCode::UNAUTHORIZED {
        sleep(Duration::from_millis(1)).await;
    }
    println!(
        "node b: {}, {} ms after the revocation; promised within {} s",
        StatusCode::UNAUTHORIZED,
        since.elapsed().as_millis(),
        revoked.effective_within.as_secs()
    );
    Ok(())
}

async fn hello(principal: Principal) -> String {
    format!("hello, {}\n", principal.name())
}
