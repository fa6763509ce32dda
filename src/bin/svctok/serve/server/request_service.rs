use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::ConnectInfo;
use futures::future::{BoxFuture, Either, FutureExt, Ready, ready};
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Request, Response, Version, request};
use hyper::body::Incoming;
use tower::Service;

use super::activity::Activity;
use super::body::{RequestBody, ResponseBody};
use super::budget_layer::rejection_response;
use super::exchange::{EndReason, Exchange, Reservation, head_size};
use super::in_flight::InFlight;
use super::rejection_log::RejectionCause;
use super::stream_executor::StreamExecutor;
use crate::serve::request_log;

/// What has a budget of its own, and what connections beyond the limit are kept for.
const HEALTH_PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The response to a request.
pub(super) type ResponseFuture = Either<Ready<ResponseResult>, BoxFuture<'static, ResponseResult>>;

type ResponseResult = Result<Response<ResponseBody>, Infallible>;

/// Answers the requests of one connection.
#[derive(Clone)]
pub(super) struct RequestService {
    pub(super) app: Router,
    pub(super) peer: SocketAddr,
    /// `None` for a declared proxy.
    pub(super) client: Option<IpAddr>,
    pub(super) in_flight: Arc<InFlight>,
    /// The budget for health and metrics.
    pub(super) health_in_flight: Arc<InFlight>,
    pub(super) activity: Arc<Activity>,
    pub(super) executor: StreamExecutor,
    /// Whether only health and metrics are served.
    pub(super) is_reserved: bool,
}

impl RequestService {
    /// Begins an exchange; the future answers it. That of a refused request is small, because many
    /// of them may wait to run.
    pub(super) fn call(&self, request: Request<Incoming>) -> ResponseFuture {
        let is_multiplexed = request.version() == Version::HTTP_2;
        let closes = self.is_reserved && !is_multiplexed;
        let (head, body) = request.into_parts();
        let exchange = match self.begin(&head, is_multiplexed) {
            Ok(exchange) => exchange,
            Err(cause) => {
                let response = with_close(self.reject(&head, cause), closes);
                return Either::Left(ready(Ok(response)));
            }
        };
        let request = Request::from_parts(head, body);
        if is_multiplexed {
            self.executor.set_next_exchange(&exchange);
        }
        let (app, peer) = (self.app.clone(), self.peer);
        let response = async move {
            let response = respond(app, peer, request, exchange).await;
            Ok(with_close(response, closes))
        };
        Either::Right(response.boxed())
    }

    fn begin(
        &self,
        head: &request::Parts,
        is_multiplexed: bool,
    ) -> Result<Arc<Exchange>, RejectionCause> {
        let is_health = HEALTH_PATHS.contains(&head.uri.path());
        if self.is_reserved && !is_health {
            return Err(RejectionCause::Connections);
        }
        let in_flight = if is_health {
            &self.health_in_flight
        } else {
            &self.in_flight
        };
        let size = head_size(head);
        Exchange::begin(in_flight, &self.activity, self.client, size, is_multiplexed)
            .map_err(|_| RejectionCause::Budget)
    }

    /// Refuses a request. No other layer sees it, so that it is counted and logged here.
    fn reject(&self, head: &request::Parts, cause: RejectionCause) -> Response<ResponseBody> {
        self.activity.reject_request();
        let mut response = rejection_response(EndReason::Overload, ResponseBody::empty());
        let id = request_log::count_rejection(head, &mut response);
        if self.in_flight.rejections().permits(cause) {
            request_log::log_rejection(&head.method, &head.uri, Some(&id), cause.text());
        }
        response
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
    request.extensions_mut().insert(Arc::clone(&exchange));
    let Ok(response) = app.call(request).await;
    let (mut head, body) = response.into_parts();
    let reservation = head.extensions.remove::<Arc<Reservation>>();
    if exchange.is_answered() {
        let body = ResponseBody::new(body, exchange, reservation);
        return Response::from_parts(head, body);
    }
    // It did not pass through `with_budget`: it took too long, or its handler panicked.
    if let Ok(reservation) = exchange.begin_response(body.size_hint().exact()) {
        let body = ResponseBody::new(body, exchange, reservation.map(Arc::new));
        return Response::from_parts(head, body);
    }
    // The client gets no more than the head.
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, ResponseBody::empty())
}
