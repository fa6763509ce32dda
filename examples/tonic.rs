//! gRPC: the layer and a table of methods around a tonic server, and a client that sends its token as metadata.
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
use tower_service_token::authorize::{Caller, GrpcMethodGuardLayer};
use tower_service_token::principal::Requirement;
use tower_service_token::reject::{GrpcStatus, Rejection};
use tower_service_token::store::TokenRecord;
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, ServiceTokenLayer};

struct HealthForKnownCallers;

/// Converts a rejection in a handler.
fn to_status(rejection: &Rejection) -> Status {
    let response = rejection.to_grpc_response(());
    Status::from_header_map(response.headers()).expect("a gRPC response has a status")
}

#[tonic::async_trait]
impl Health for HealthForKnownCallers {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let caller = Caller::from_extensions(request.extensions());
        let caller = caller.map_err(|rejection| to_status(&rejection))?;
        println!("server: called by {}", caller.name());
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
    let record = TokenRecord::from(&token).with_name("monitor");
    store.insert(record.with_scopes(["health:read"]))?;

    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let endpoint = Endpoint::from_shared(format!("http://{}", listener.local_addr()?))?;
    // A method without an entry is rejected.
    let methods = GrpcMethodGuardLayer::new().with_method(
        "grpc.health.v1.Health/Check",
        Requirement::any_scope(["health:read"]),
    );
    let server = Server::builder()
        .layer(ServiceTokenLayer::new(store).with_rejection_response(GrpcStatus))
        .layer(methods)
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
