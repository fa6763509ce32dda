//! Plain hyper without a framework: the layer around a function, served over a socket.
//!
//! `cargo run --example hyper_only` sends the requests itself and prints the responses.

use std::convert::Infallible;
use std::error::Error;
use std::io;

use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_service_token::store::TokenRecord;
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer};

async fn greet(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let principal = request.extensions().get::<Principal>();
    let principal = principal.expect("the layer inserts a principal");
    Ok(Response::new(format!("hello, {}", principal.name()).into()))
}

async fn serve(listener: TcpListener, store: MemoryStore) -> io::Result<()> {
    let service = ServiceBuilder::new()
        .layer(ServiceTokenLayer::new(store))
        .service(service_fn(greet));
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let connection = auto::Builder::new(TokioExecutor::new());
            let io = TokioIo::new(stream);
            if let Err(error) = connection.serve_connection(io, service).await {
                eprintln!("a connection ended early: {error}");
            }
        });
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let token = TokenFormat::default().mint()?;
    store.insert(TokenRecord::from(&token).with_name("ci"))?;

    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(serve(listener, store));

    let client = Client::builder(TokioExecutor::new()).build_http();
    for (case, token) in [
        ("with the token", Some(token.expose_secret())),
        ("with another", Some("another")),
        ("without", None),
    ] {
        let mut request = Request::get(&url);
        if let Some(token) = token {
            request = request.header("authorization", format!("ApiKey {token}"));
        }
        let response = client.request(request.body(Empty::<Bytes>::new())?).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        println!("{case}: {status} {}", String::from_utf8_lossy(&body));
    }
    Ok(())
}
