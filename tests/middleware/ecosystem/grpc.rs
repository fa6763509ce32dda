use std::net::SocketAddr;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use tokio::net::TcpListener;
use tonic::codegen::BoxStream;
use tonic::metadata::MetadataValue;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower::ServiceExt;
use tower_service_token::authorize::{Caller, GrpcMethodGuardLayer, RequireScopesLayer};
use tower_service_token::principal::Requirement;
use tower_service_token::reject::{GrpcStatus, Rejection};
use tower_service_token::store::TokenRecord;
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, TokenStore};

use crate::ecosystem::{UnavailableStore, UncachedStore, mint, store_with_token};

/// Responds with the caller's name as metadata.
struct CallerNameService;

#[tonic::async_trait]
impl Health for CallerNameService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let principal = request.extensions().get::<Principal>();
        let principal = principal.ok_or_else(|| Status::internal("no principal"))?;
        let mut response = Response::new(HealthCheckResponse {
            status: ServingStatus::Serving as i32,
        });
        let name = principal.name().parse().unwrap();
        response.metadata_mut().insert("caller", name);
        Ok(response)
    }

    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("only check is served"))
    }
}

/// Converts a rejection in a handler or an interceptor.
fn to_status(rejection: &Rejection) -> Status {
    let response = rejection.to_grpc_response(());
    Status::from_header_map(response.headers()).expect("a gRPC response has a status")
}

/// Checks a role in the handler.
struct RequireInHandler;

#[tonic::async_trait]
impl Health for RequireInHandler {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let caller = Caller::from_extensions(request.extensions());
        let caller = caller.map_err(|rejection| to_status(&rejection))?;
        let allowed = caller.require(Requirement::any_role(["builder"]));
        allowed.map_err(|rejection| to_status(&rejection))?;
        let mut response = Response::new(HealthCheckResponse::default());
        let name = caller.name().parse().unwrap();
        response.metadata_mut().insert("caller", name);
        Ok(response)
    }

    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        panic!("the guard has no entry for this method")
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn connect(address: SocketAddr) -> HealthClient<Channel> {
    let timeout = Duration::from_secs(30);
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_timeout(timeout)
        .timeout(timeout);
    HealthClient::new(endpoint.connect().await.unwrap())
}

/// Starts a tonic server that requires the scope `health:check`, and connects a client to it.
async fn tonic_server(store: impl TokenStore) -> HealthClient<Channel> {
    let (listener, address) = listen().await;
    let scopes = RequireScopesLayer::all_of(["health:check"]);
    let server = Server::builder()
        .layer(ServiceTokenLayer::new(store).with_rejection_response(GrpcStatus))
        .layer(scopes.with_rejection_response(GrpcStatus))
        .add_service(HealthServer::new(CallerNameService))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);
    connect(address).await
}

fn axum_router(store: impl TokenStore) -> axum::Router {
    Routes::new(HealthServer::new(CallerNameService))
        .into_axum_router()
        .layer(ServiceTokenLayer::new(store).with_rejection_response(GrpcStatus))
}

async fn axum_server(store: impl TokenStore) -> HealthClient<Channel> {
    let (listener, address) = listen().await;
    let router = axum_router(store);
    tokio::spawn(async move { axum::serve(listener, router).await });
    connect(address).await
}

fn call(metadata: &[(&'static str, &str)]) -> Request<HealthCheckRequest> {
    let mut request = Request::new(HealthCheckRequest::default());
    for (name, value) in metadata {
        let value: MetadataValue<_> = value.parse().unwrap();
        request.metadata_mut().append(*name, value);
    }
    request
}

async fn rejected_status(
    client: &mut HealthClient<Channel>,
    metadata: &[(&'static str, &str)],
) -> Status {
    client.check(call(metadata)).await.unwrap_err()
}

async fn caller(client: &mut HealthClient<Channel>, token: &str) -> String {
    let authorization = format!("ApiKey {token}");
    let request = call(&[("authorization", &authorization)]);
    let response = client.check(request).await.unwrap();
    assert_eq!(response.get_ref().status, ServingStatus::Serving as i32);
    name_in(&response)
}

async fn caller_name(client: &mut HealthClient<Channel>, token: &str) -> String {
    let response = client.check(call(&[("x-api-key", token)])).await;
    name_in(&response.unwrap())
}

fn name_in(response: &Response<HealthCheckResponse>) -> String {
    response
        .metadata()
        .get("caller")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn grpc_service_sees_the_principal() {
    let (store, token) = store_with_token();
    let mut client = tonic_server(store.clone()).await;
    assert_eq!(caller(&mut client, token.expose_secret()).await, "ci");
    let mut client = tonic_server(UncachedStore(store)).await;
    assert_eq!(caller(&mut client, token.expose_secret()).await, "ci");
}

#[tokio::test]
async fn invalid_tokens_are_unauthenticated_and_the_channel_stays_usable() {
    let (store, token) = store_with_token();
    let mut client = tonic_server(store).await;

    let status = rejected_status(&mut client, &[]).await;
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(status.message(), "no service token provided");
    assert_eq!(
        status.metadata().get("www-authenticate").unwrap(),
        r#"ApiKey realm="api""#
    );

    let status = rejected_status(&mut client, &[("x-api-key", mint().expose_secret())]).await;
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(status.message(), "the service token is not valid");

    assert_eq!(caller(&mut client, token.expose_secret()).await, "ci");
}

#[tokio::test]
async fn missing_scope_is_permission_denied() {
    let (store, token) = (MemoryStore::new(), mint());
    let record = TokenRecord::from(&token).with_scopes(["health:watch"]);
    store.insert(record).unwrap();
    let mut client = tonic_server(store).await;

    let status = rejected_status(&mut client, &[("x-api-key", token.expose_secret())]).await;
    assert_eq!(status.code(), Code::PermissionDenied);
    let expected = "the service token lacks a required role or scope";
    assert_eq!(status.message(), expected);
    assert_eq!(
        status.metadata().get("www-authenticate").unwrap(),
        r#"ApiKey realm="api", error="insufficient_scope", scope="health:check""#
    );
}

#[tokio::test]
async fn conflicting_tokens_are_invalid_argument() {
    let (store, token) = store_with_token();
    let mut client = tonic_server(store).await;
    let token = token.expose_secret();
    let authorization = format!("ApiKey {token}");

    let other = mint();
    for metadata in [
        [
            ("authorization", authorization.as_str()),
            ("x-api-key", other.expose_secret()),
        ],
        [("x-api-key", token), ("x-api-key", other.expose_secret())],
    ] {
        let status = rejected_status(&mut client, &metadata).await;
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn rejections_in_handlers_and_of_methods_reach_the_client_as_status() {
    let (store, token) = store_with_token();
    let weak = mint();
    store.insert(TokenRecord::from(&weak)).unwrap();
    let layer = ServiceTokenLayer::new(store).with_identity(|_| None);
    let methods =
        GrpcMethodGuardLayer::new().with_authenticated_method("grpc.health.v1.Health/Check");
    let (listener, address) = listen().await;
    let server = Server::builder()
        .layer(layer.with_rejection_response(GrpcStatus))
        .layer(methods)
        .add_service(HealthServer::new(RequireInHandler))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);
    let mut client = connect(address).await;

    assert_eq!(caller_name(&mut client, token.expose_secret()).await, "ci");
    let weak = [("x-api-key", weak.expose_secret())];
    let status = rejected_status(&mut client, &weak).await;
    assert_eq!(status.code(), Code::PermissionDenied);
    let expected = "the service token lacks a required role or scope";
    assert_eq!(status.message(), expected);
    let status = rejected_status(&mut client, &[]).await;
    assert_eq!(status.code(), Code::Unauthenticated);

    let status = client.watch(call(&weak)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(status.message(), expected);
    let status = client.watch(call(&[])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

/// Without the layer, a handler fails closed and its client learns nothing.
#[tokio::test]
async fn handler_without_the_layer_is_an_internal_error() {
    let (listener, address) = listen().await;
    let server = Server::builder()
        .add_service(HealthServer::new(RequireInHandler))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);
    let status = rejected_status(&mut connect(address).await, &[]).await;
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(status.message(), "the request could not be authenticated");
}

#[tokio::test]
async fn grpc_store_outage_is_unavailable() {
    let mut client = tonic_server(UnavailableStore).await;
    let status = rejected_status(&mut client, &[("x-api-key", mint().expose_secret())]).await;
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.metadata().get("retry-after").unwrap(), "1");
    let expected = "service tokens cannot be checked at the moment";
    assert_eq!(status.message(), expected);
}

#[tokio::test]
async fn axum_router_responds_with_the_same_grpc_codes() {
    let (store, token) = store_with_token();
    let mut client = axum_server(store).await;
    assert_eq!(caller(&mut client, token.expose_secret()).await, "ci");
    assert_eq!(
        rejected_status(&mut client, &[]).await.code(),
        Code::Unauthenticated
    );
    let both = [
        ("x-api-key", token.expose_secret()),
        ("authorization", "ApiKey other"),
    ];
    assert_eq!(
        rejected_status(&mut client, &both).await.code(),
        Code::InvalidArgument
    );

    let mut client = axum_server(UnavailableStore).await;
    let status = rejected_status(&mut client, &[("x-api-key", token.expose_secret())]).await;
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn rejection_format_follows_the_request_protocol() {
    let (store, _) = store_with_token();
    let router = axum_router(store);
    for content_type in ["application/grpc", "application/grpc+proto"] {
        let request = http::Request::post("/grpc.health.v1.Health/Check")
            .header(CONTENT_TYPE, content_type)
            .body(axum::body::Body::empty())
            .unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "16");
        assert_eq!(
            response.headers()["grpc-message"],
            "no service token provided"
        );
        assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        let body = axum::body::to_bytes(response.into_body(), 4096)
            .await
            .unwrap();
        assert!(body.is_empty(), "{body:?}");
    }

    let request = http::Request::post("/grpc.health.v1.Health/Check")
        .header(CONTENT_TYPE, "application/json")
        .body(axum::body::Body::empty())
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 401);
    assert!(!response.headers().contains_key(CONTENT_TYPE));
    assert!(!response.headers().contains_key("grpc-status"));
}

/// A gRPC content type in the request must not turn the rejection of a JSON service into a 200.
#[cfg(feature = "axum")]
#[tokio::test]
async fn services_without_grpc_status_respond_with_an_http_status() {
    let (store, token) = store_with_token();
    let guard = RequireScopesLayer::all_of(["users:write"]);
    let router = axum::Router::new()
        .route("/", axum::routing::any(async || "reached"))
        .route_layer(guard)
        .route(
            "/extractor",
            axum::routing::any(async |_: Principal| "reached"),
        )
        .layer(ServiceTokenLayer::new(store).optional());
    for content_type in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc-web",
    ] {
        for (path, key, status) in [
            ("/", "two words", 400),
            ("/", mint().expose_secret(), 401),
            ("/", token.expose_secret(), 403),
            ("/", "", 401),
            ("/extractor", "", 401),
        ] {
            let mut request = http::Request::post(path).header(CONTENT_TYPE, content_type);
            if !key.is_empty() {
                request = request.header("x-api-key", key);
            }
            let request = request.body(axum::body::Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "{path} {content_type}");
            assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
            assert!(!response.headers().contains_key("grpc-status"));
        }
    }
}
