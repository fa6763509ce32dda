use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::header::{CONNECTION, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tower::Service;

use super::activity::Activity;
use super::body::{RequestBody, ResponseBody};
use super::exchange::{EndReason, Exchange};
use super::in_flight::InFlight;
use super::stream_executor::StreamExecutor;

/// What connections beyond the limit are kept for.
const HEALTH_PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Answers the requests of one connection.
#[derive(Clone)]
pub(super) struct Requests {
    pub(super) app: Router,
    pub(super) peer: SocketAddr,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) activity: Arc<Activity>,
    pub(super) executor: StreamExecutor,
    /// Whether only health and metrics are served.
    pub(super) is_reserved: bool,
}

impl Requests {
    /// Begins an exchange; the future answers it.
    pub(super) fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send + use<> {
        let version = request.version();
        let is_multiplexed = version == Version::HTTP_2;
        let is_refused = self.is_reserved && !HEALTH_PATHS.contains(&request.uri().path());
        let exchange = match is_refused {
            true => None,
            false => Exchange::begin(&self.in_flight, &self.activity, is_multiplexed).ok(),
        };
        if let (Some(exchange), true) = (&exchange, is_multiplexed) {
            self.executor.begin(exchange);
        }
        let (app, peer, closes) = (self.app.clone(), self.peer, self.is_reserved);
        async move {
            let mut response = match exchange {
                Some(exchange) => respond(app, peer, request, exchange).await,
                None => refusal(EndReason::Overload),
            };
            if closes && version < Version::HTTP_2 {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            response
        }
    }
}

async fn respond(
    mut app: Router,
    peer: SocketAddr,
    request: Request<Incoming>,
    exchange: Arc<Exchange>,
) -> Response<ResponseBody> {
    let mut request = request.map(|body| Body::new(RequestBody::new(body, Arc::clone(&exchange))));
    request.extensions_mut().insert(ConnectInfo(peer));
    let response = tokio::select! {
        biased;
        response = app.call(request) => match response {
            Ok(response) => response,
            Err(never) => match never {},
        },
        reason = exchange.ended() => return refusal(reason),
    };
    exchange.release_request();
    let (head, body) = response.into_parts();
    match ResponseBody::new(body, exchange) {
        Ok(body) => Response::from_parts(head, body),
        Err(_) => refusal(EndReason::Overload),
    }
}

/// Without a body, so that it occupies as little as possible.
fn refusal(reason: EndReason) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    match reason {
        EndReason::Stalled => *response.status_mut() = StatusCode::REQUEST_TIMEOUT,
        EndReason::Overload => {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            let second = HeaderValue::from_static("1");
            response.headers_mut().insert(RETRY_AFTER, second);
        }
    }
    response
}
