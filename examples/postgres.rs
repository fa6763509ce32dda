//! Two nodes of a service share their tokens in PostgreSQL: a token created on one node is accepted
//! by the other, and rejected there after its revocation.
//!
//! `DATABASE_URL=postgres://user@localhost/tokens cargo run --example postgres --features postgres`.
//! The example creates the tables `service_token…` in that database. Both nodes run in this
//! process, but communicate only through the database.

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

/// A server and the lifecycle of its tokens.
struct Node {
    address: SocketAddr,
    tokens: ServiceTokens,
    client: Client<HttpConnector, Body>,
}

impl Node {
    async fn start(url: &str) -> Result<Self, Box<dyn Error>> {
        // Each node has its own connections, its own cache, and one connection for change
        // notifications.
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
    let url = env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
    let url = url.ok_or("DATABASE_URL is not set")?;
    let (a, b) = (Node::start(&url).await?, Node::start(&url).await?);

    let issued = a.tokens.create(NewToken::new("two nodes")).await?;
    let (id, token) = (issued.record().id(), issued.expose_secret());
    println!("node a: created {id}");
    // Node b caches the token now.
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
