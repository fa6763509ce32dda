use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use futures::future::{BoxFuture, Either, FutureExt, Ready, ready};
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

/// The response to a request.
pub(super) type Answer = Either<Ready<Outcome>, BoxFuture<'static, Outcome>>;

type Outcome = Result<Response<ResponseBody>, Infallible>;

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
    /// Begins an exchange; the future answers it. That of a refused request is small, because many
    /// of them may wait to run.
    pub(super) fn answer(&self, request: Request<Incoming>) -> Answer {
        let is_multiplexed = request.version() == Version::HTTP_2;
        let closes = self.is_reserved && !is_multiplexed;
        let is_refused = self.is_reserved && !HEALTH_PATHS.contains(&request.uri().path());
        let exchange = if is_refused {
            None
        } else {
            Exchange::begin(&self.in_flight, &self.activity, is_multiplexed).ok()
        };
        let Some(exchange) = exchange else {
            self.activity.refuse_request();
            let refusal = with_close(refusal(EndReason::Overload), closes);
            return Either::Left(ready(Ok(refusal)));
        };
        if is_multiplexed {
            self.executor.begin(&exchange);
        }
        let (app, peer) = (self.app.clone(), self.peer);
        let response = async move {
            let response = respond(app, peer, request, exchange).await;
            Ok(with_close(response, closes))
        };
        Either::Right(response.boxed())
    }
}

fn with_close(mut response: Response<ResponseBody>, closes: bool) -> Response<ResponseBody> {
    if closes {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
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
