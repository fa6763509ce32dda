use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::sse::{Event, Sse};
use axum::response::{Html, Response};
use axum::routing::{get, post};
use axum::{Router, extract::Request};
use futures::stream::{self, Stream, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tower_service_token::lifecycle::NewToken;
use tower_service_token::reject::Rejection;
use tower_service_token::store::CachedStore;
use tower_service_token::streams::{
    MemoryTicketStore, PrincipalWatcher, Ticket, TicketLayer, Tickets,
};
use tower_service_token::token::TokenId;
use tower_service_token::{MemoryStore, Principal, ServiceTokenLayer, ServiceTokens};

const PAGE: &str = include_str!("page.html");

/// Serves the page and the streams, and receives the reports of the page.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) tokens: ServiceTokens,
    pub(crate) token: TokenId,
    reports: UnboundedReceiver<String>,
}

#[derive(Clone)]
struct Streams {
    tickets: Tickets,
    watcher: PrincipalWatcher,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let store = MemoryStore::new();
        let tokens = ServiceTokens::new(store.clone());
        let new = NewToken::new("dashboard").with_scopes(["jobs:read"]);
        let issued = tokens.create(new).await.unwrap();
        let (send_report, reports) = unbounded_channel();
        let page = PAGE.replace("{{token}}", issued.expose_secret());
        let app = app(CachedStore::new(store), send_report, page);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            url,
            tokens,
            token: issued.record().id(),
            reports,
        }
    }

    pub(crate) async fn report(&mut self) -> String {
        let report = tokio::time::timeout(Duration::from_secs(60), self.reports.recv());
        report
            .await
            .expect("a report in time")
            .expect("the server runs")
    }
}

fn app(store: CachedStore<MemoryStore>, reports: UnboundedSender<String>, page: String) -> Router {
    let streams = Streams {
        tickets: Tickets::new(MemoryTicketStore::new()),
        watcher: PrincipalWatcher::new(store.clone()),
    };
    let tokens = ServiceTokenLayer::new(store);
    let issue = Router::new()
        .route("/ticket", post(ticket))
        .route_layer(tokens.clone());
    let opened = Router::new()
        .route("/events", get(events))
        .route("/socket", get(socket))
        .route_layer(TicketLayer::new(tokens, streams.tickets.clone()));
    let report = async move |report: String| reports.send(report).unwrap();
    Router::new()
        .merge(issue)
        .merge(opened)
        .with_state(streams)
        .route("/", get(Html(page)))
        .route("/report", post(report))
}

async fn ticket(caller: Principal, State(streams): State<Streams>) -> Result<Ticket, Rejection> {
    streams.tickets.issue(&caller).await
}

async fn events(
    caller: Principal,
    State(streams): State<Streams>,
    request: Request,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Rejection> {
    assert_eq!(request.uri(), "/events", "the ticket is removed");
    let watch = streams.watcher.watch(&caller)?;
    let hello = Event::default().data(format!("hello {}", caller.name()));
    let end = async move {
        Event::default()
            .event("end")
            .data(watch.ended().await.as_str())
    };
    let events = stream::iter([hello]).chain(stream::once(end)).map(Ok);
    Ok(Sse::new(events))
}

async fn socket(
    caller: Principal,
    State(streams): State<Streams>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Rejection> {
    let watch = streams.watcher.watch(&caller)?;
    let response = upgrade
        .protocols(["chat.v1"])
        .on_upgrade(async move |mut socket: WebSocket| {
            let hello = format!("hello {}", caller.name());
            let _ = socket.send(Message::text(hello)).await;
            let frame = CloseFrame {
                code: close_code::POLICY,
                reason: watch.ended().await.as_str().into(),
            };
            let _ = socket.send(Message::Close(Some(frame))).await;
            // Completes the closing handshake.
            while let Some(Ok(_)) = socket.recv().await {}
        });
    Ok(response)
}
