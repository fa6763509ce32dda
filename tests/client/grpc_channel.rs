//! A tonic client whose `Channel` has the layer in front.

use http::header::AUTHORIZATION;
#[cfg(feature = "tracing")]
use tests::log::Log;
use tokio::net::TcpListener;
use tonic::Code;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::Layer;
use tower_service_token::client::AddServiceTokenLayer;
use tower_service_token::origin::Origin;
use tower_service_token::reject::GrpcStatus;
use tower_service_token::store::TokenRecord;
use tower_service_token::token::TokenFormat;
use tower_service_token::{MemoryStore, ServiceTokenLayer};

use super::outgoing_requests::{TOKEN, sent_headers_to};

/// A gRPC server that requires a token, its endpoint, and a layer with the token.
async fn server() -> (Endpoint, AddServiceTokenLayer) {
    let (store, token) = (MemoryStore::new(), TokenFormat::default().mint().unwrap());
    store.insert(TokenRecord::from(&token)).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder()
        .layer(ServiceTokenLayer::new(store).with_rejection_response(GrpcStatus))
        .add_service(health)
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);
    (
        Endpoint::from_shared(uri).unwrap(),
        AddServiceTokenLayer::new(token.expose_secret()).unwrap(),
    )
}

/// The status of a call through a channel with this layer.
async fn call(layer: &AddServiceTokenLayer, channel: Channel) -> Result<(), Code> {
    let mut client = HealthClient::new(layer.layer(channel));
    let response = client.check(HealthCheckRequest::default()).await;
    response.map(drop).map_err(|status| status.code())
}

fn origin(endpoint: &Endpoint) -> Origin {
    Origin::of(endpoint.uri()).unwrap()
}

#[tokio::test]
async fn channel_sends_the_token_to_its_origin() {
    let (endpoint, layer) = server().await;
    let channel = endpoint.connect_lazy();
    assert_eq!(call(&layer, channel.clone()).await, Ok(()));

    let limited = layer.clone().with_origin(origin(&endpoint));
    assert_eq!(
        call(&limited, channel.clone()).await,
        Err(Code::Unauthenticated)
    );
    let declared = layer.with_endpoint_origin(origin(&endpoint));
    assert_eq!(call(&declared, channel.clone()).await, Ok(()));

    // A client that has the origin makes absolute targets.
    let mut client = HealthClient::with_origin(limited.layer(channel), endpoint.uri().clone());
    let response = client.check(HealthCheckRequest::default()).await;
    assert!(response.is_ok(), "{response:?}");
}

#[test]
fn endpoint_origin_covers_relative_targets_and_its_own() {
    let layer = AddServiceTokenLayer::new(TOKEN).unwrap();
    let layer = layer.with_endpoint_origin(Origin::new("https://jobs.example").unwrap());
    for (target, expected) in [
        ("/jobs.v1.Jobs/List", true),
        ("https://jobs.example/a", true),
        ("https://evil.example/a", false),
        ("http://jobs.example/a", false),
        ("https://jobs.example:8443/a", false),
        ("jobs.example:443", false),
    ] {
        let headers = sent_headers_to(&layer, target, &[]);
        assert_eq!(headers.contains_key(AUTHORIZATION), expected, "{target}");
    }
}

#[test]
fn later_setter_determines_the_origin() {
    let jobs = || Origin::new("https://jobs.example").unwrap();
    let other = || Origin::new("https://other.example").unwrap();
    let layer = || AddServiceTokenLayer::new(TOKEN).unwrap();
    let endpoint_last = layer().with_origin(other()).with_endpoint_origin(jobs());
    let origin_last = layer().with_endpoint_origin(other()).with_origin(jobs());
    let same_origin = layer().with_endpoint_origin(jobs()).with_origin(jobs());
    for (name, layer, relative) in [
        ("endpoint last", endpoint_last, true),
        ("origin last", origin_last, false),
        ("same origin", same_origin, true),
    ] {
        for (target, expected) in [
            ("/jobs.v1.Jobs/List", relative),
            ("https://jobs.example/a", true),
            ("https://other.example/a", false),
        ] {
            let headers = sent_headers_to(&layer, target, &[]);
            let is_sent = headers.contains_key(AUTHORIZATION);
            assert_eq!(is_sent, expected, "{name}: {target}");
        }
    }
}

#[cfg(feature = "tracing")]
#[test]
fn token_that_is_not_sent_is_logged_once() {
    let log = Log::default();
    let _guard = log.start();
    let layer = AddServiceTokenLayer::new(TOKEN).unwrap();
    let layer = layer.with_origin(Origin::new("https://jobs.example").unwrap());
    for _ in 0..3 {
        assert!(sent_headers_to(&layer.clone(), "/jobs.v1.Jobs/List", &[]).is_empty());
        assert!(sent_headers_to(&layer, "https://evil.example/", &[]).is_empty());
    }
    let text = log.text();
    assert_eq!(text.matches("with_endpoint_origin").count(), 1, "{text}");
    assert!(text.contains("WARN"), "{text}");
}
