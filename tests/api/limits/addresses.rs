//! The client's address in audit events and logs.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::Request;
use http::header::FORWARDED;
use tests::log::Log;
use tower::ServiceExt;
use tower_service_token::api::forward_auth::ForwardAuth;
use tower_service_token::api::management::ManagementApi;
use tower_service_token::api::oauth::OAuthEndpoints;
use tower_service_token::api::pipeops::PipeOpsApi;
use tower_service_token::api::stackstate::StackStateApi;
use tower_service_token::audit::{AuditAction, AuditEvent, AuditSink};
use tower_service_token::lifecycle::NewToken;
use tower_service_token::limits::ClientAddressLayer;
use tower_service_token::store::DenialKind;
use tower_service_token::{MemoryStore, ServiceTokenLayer, ServiceTokens};

#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<AuditEvent>>>);

impl AuditSink for Events {
    fn record(&self, event: &AuditEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Events {
    /// Returns the actions since the last call, with their client addresses.
    fn take(&self) -> Vec<(AuditAction, Option<IpAddr>)> {
        let events = std::mem::take(&mut *self.0.lock().unwrap());
        let events = events.iter();
        events
            .map(|event| (event.action(), event.client_address()))
            .collect()
    }
}

struct App {
    events: Events,
    tokens: ServiceTokens,
    router: Router,
}

impl App {
    fn new(addresses: ClientAddressLayer) -> Self {
        let (events, store) = (Events::default(), MemoryStore::new());
        let tokens = ServiceTokens::new(store.clone()).with_audit_sink(events.clone());
        let layer = ServiceTokenLayer::new(store).accept_bearer();
        let layer = layer.with_audit_sink(events.clone());
        let pipeops = PipeOpsApi::new(tokens.clone(), layer.clone());
        let stackstate = StackStateApi::new(tokens.clone(), layer.clone());
        let router = Router::new()
            .merge(ManagementApi::new(tokens.clone(), layer.clone()).into_router())
            .merge(OAuthEndpoints::new(tokens.clone(), layer.clone()).into_router())
            .merge(ForwardAuth::new(layer).into_router())
            .nest("/api", stackstate.into_router())
            .merge(pipeops.into_router())
            .layer(addresses);
        Self {
            events,
            tokens,
            router,
        }
    }

    /// Sends a request through a proxy at `10.0.0.1`.
    async fn send(&self, request: http::request::Builder, body: &str) -> u16 {
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        let peer: SocketAddr = ([10, 0, 0, 1], 4000).into();
        request.extensions_mut().insert(ConnectInfo(peer));
        let headers = request.headers_mut();
        headers.append("x-forwarded-for", "203.0.113.9".parse().unwrap());
        headers.append("x-forwarded-for", "192.0.2.1".parse().unwrap());
        headers.append(FORWARDED, "for=203.0.113.8".parse().unwrap());
        let response = self.router.clone().oneshot(request).await;
        response.unwrap().status().as_u16()
    }
}

fn behind_a_proxy() -> ClientAddressLayer {
    ClientAddressLayer::new().with_trusted_proxies("10.0.0.0/8".parse().unwrap())
}

const CLIENT: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

#[tokio::test]
async fn audits_changes_of_every_api_with_the_client_address() {
    let app = App::new(behind_a_proxy());
    let admin = NewToken::new("admin").with_scopes(["service-tokens:admin", "introspect"]);
    let admin = app.tokens.create(admin).await.unwrap();
    let bearer = format!("Bearer {}", admin.expose_secret());
    assert_eq!(app.events.take(), [(AuditAction::Created, None)]);
    for (path, body) in [
        ("/service-tokens", r#"{"name":"a"}"#),
        ("/api/security/tokens", r#"{"name":"b","roles":[]}"#),
        (
            "/api/v1/service-account-tokens",
            r#"{"name":"c","scopes":["x:y"]}"#,
        ),
    ] {
        let request = Request::post(path).header("authorization", &bearer);
        let request = request.header("content-type", "application/json");
        let status = app.send(request, body).await;
        assert!((200..300).contains(&status), "{path}: {status}");
        assert_eq!(
            app.events.take(),
            [(AuditAction::Created, CLIENT)],
            "{path}"
        );
    }
    let form = "application/x-www-form-urlencoded";
    let request = Request::post("/revoke").header("content-type", form);
    let own = app.tokens.create(NewToken::new("own")).await.unwrap();
    let token = format!("token={}", own.expose_secret());
    assert_eq!(app.send(request, &token).await, 200);
    let created = (AuditAction::Created, None);
    assert_eq!(app.events.take(), [created, (AuditAction::Revoked, CLIENT)]);
}

#[tokio::test]
async fn audits_and_logs_rejections_with_the_client_address() {
    for (addresses, client) in [
        (behind_a_proxy(), CLIENT),
        (ClientAddressLayer::new(), Some([10, 0, 0, 1].into())),
        (
            behind_a_proxy().with_header(FORWARDED),
            Some([203, 0, 113, 8].into()),
        ),
    ] {
        let app = App::new(addresses);
        let token = app.tokens.create(NewToken::new("ci")).await.unwrap();
        app.tokens.revoke(token.record().id()).await.unwrap();
        app.events.take();
        let log = Log::default();
        let guard = log.start();
        for path in [
            "/verify",
            "/service-tokens",
            "/workspace",
            "/api/security/tokens",
        ] {
            let bearer = format!("Bearer {}", token.expose_secret());
            let request = Request::get(path).header("authorization", bearer);
            assert_eq!(app.send(request, "").await, 401, "{path}");
            let rejected = AuditAction::Rejected(DenialKind::Revoked);
            assert_eq!(app.events.take(), [(rejected, client)], "{path}");
        }
        let other = app
            .tokens
            .create(NewToken::new("without scopes"))
            .await
            .unwrap();
        let request = Request::get("/service-tokens").header("x-api-key", other.expose_secret());
        assert_eq!(app.send(request, "").await, 403);
        drop(guard);
        let text = log.text();
        let rejected = text
            .lines()
            .filter(|line| line.contains("request rejected"));
        let client = format!("client={}", client.unwrap());
        assert!(
            rejected.clone().all(|line| line.contains(&client)),
            "{text}"
        );
        assert_eq!(
            rejected.count(),
            if cfg!(feature = "tracing") { 5 } else { 0 }
        );
    }
}

#[cfg(feature = "tracing")]
#[tokio::test]
async fn audit_log_stores_the_client_address() {
    use tower_service_token::lifecycle::{Actor, Operator};

    let log = Log::default();
    let guard = log.start();
    let tokens = ServiceTokens::new(MemoryStore::new());
    let actor = Actor::from(Operator::new("alice")).with_client_address(CLIENT);
    let acting = tokens.clone().acting_for(actor);
    drop(acting.create(NewToken::new("a")).await.unwrap());
    let actor = Operator::new("bob");
    let acting = tokens.acting_for(actor);
    drop(acting.create(NewToken::new("b")).await.unwrap());
    drop(guard);
    let text = log.text();
    let line_with = |name: &str| {
        text.lines()
            .find(|line| line.contains(name))
            .unwrap()
            .to_owned()
    };
    assert!(
        line_with("operator:alice").contains("client=192.0.2.1"),
        "{text}"
    );
    assert!(!line_with("operator:bob").contains("client"), "{text}");
}
