//! gRPC: the layer around a tonic server, and a client that sends its token as metadata.
//!
//! `cargo run --example tonic` makes the calls itself and prints the responses.

use std::error::Error;

use tokio::net::TcpListener;
use tonic::codegen::BoxStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower_service_token::reject::GrpcStatus;
use tower_service_token::store::TokenRecord;
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer};

struct HealthForKnownCallers;

#[tonic::async_trait]
impl Health for HealthForKnownCallers {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let principal = request.extensions().get::<Principal>();
        let principal = principal.ok_or_else(|| Status::internal("the layer is missing"))?;
        println!("server: called by {}", principal.name());
        Ok(Response::new(HealthCheckResponse {
            status: ServingStatus::Serving as i32,
        }))
    }

    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("only check is served"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let token = TokenFormat::default().mint()?;
    store.insert(TokenRecord::from(&token).with_name("monitor"))?;

    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let endpoint = Endpoint::from_shared(format!("http://{}", listener.local_addr()?))?;
    let server = Server::builder()
        .layer(ServiceTokenLayer::new(store).with_rejection_response(GrpcStatus))
        .add_service(HealthServer::new(HealthForKnownCallers))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);

    let mut client = HealthClient::new(endpoint.connect().await?);
    for (case, token) in [
        ("with the token", Some(token.expose_secret())),
        ("with another", Some("another")),
        ("without", None),
    ] {
        let mut request = Request::new(HealthCheckRequest::default());
        if let Some(token) = token {
            let mut value: tonic::metadata::MetadataValue<_> = format!("ApiKey {token}").parse()?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        match client.check(request).await {
            Ok(response) => println!("{case}: {:?}", response.into_inner()),
            Err(status) => println!("{case}: {:?}, {}", status.code(), status.message()),
        }
    }
    Ok(())
}
