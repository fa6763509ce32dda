use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use axum::body::Body;
use axum::extract::ConnectInfo;
use futures_util::future::{BoxFuture, Either, FutureExt, Ready, ready};
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version, request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::rt::Executor;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::activity::Activity;
use super::body::{RequestBody, ResponseBody};
use super::budget_layer::rejection_response;
use super::exchange::{EndReason, Exchange, Reservation, head_size};
use super::in_flight::InFlight;
use super::rejection_log::RejectionCause;
use crate::serve::request_log;

/// The paths that have a budget of their own, and that reserved connections serve.
const HEALTH_PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The response to a request.
pub(super) type ResponseFuture = Either<Ready<ResponseResult>, BoxFuture<'static, ResponseResult>>;

type ResponseResult = Result<Response<ResponseBody>, Infallible>;

/// What the connections of a listener share.
#[derive(Clone)]
pub(super) struct Listener {
    pub(super) name: &'static str,
    pub(super) app: Arc<dyn App>,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) in_flight: Arc<InFlight>,
    /// The budget for health and metrics.
    pub(super) health_in_flight: Arc<InFlight>,
}

/// Serves the requests of one connection.
#[derive(Clone)]
pub(super) struct RequestService {
    pub(super) listener: Arc<Listener>,
    pub(super) peer: SocketAddr,
    pub(super) activity: Arc<Activity>,
    /// Whether only health and metrics are served.
    pub(super) is_reserved: bool,
    pub(super) executor: StreamExecutor,
}

impl RequestService {
    /// Begins an exchange and returns its response. The future of a rejected request is small,
    /// because many of them may wait to run.
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
        Either::Right(self.listener.app.respond(Call {
            request,
            peer: self.peer,
            exchange,
            closes,
        }))
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
            &self.listener.health_in_flight
        } else {
            &self.listener.in_flight
        };
        let size = head_size(head);
        Exchange::begin(in_flight, &self.activity, size, is_multiplexed)
            .map_err(|_| RejectionCause::Budget)
    }

    /// Rejects a request. Counts and logs it here, because no layer sees it.
    fn reject(&self, head: &request::Parts, cause: RejectionCause) -> Response<ResponseBody> {
        self.activity.reject_request();
        let mut response = rejection_response(EndReason::Overload, ResponseBody::empty());
        let id = request_log::count_rejection(head, &mut response);
        if self.listener.in_flight.rejections().permits(cause) {
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

/// A service of any type that is always ready, as a router is. Its future is boxed together with what
/// the server does with the response.
pub(super) trait App: Send + Sync {
    fn respond(&self, call: Call) -> BoxFuture<'static, ResponseResult>;
}

/// A request to an [`App`].
pub(super) struct Call {
    request: Request<Incoming>,
    peer: SocketAddr,
    exchange: Arc<Exchange>,
    /// Whether the connection is closed after the response.
    closes: bool,
}

impl<S> App for S
where
    S: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + Sync,
{
    fn respond(&self, call: Call) -> BoxFuture<'static, ResponseResult> {
        let (exchange, closes) = (call.exchange, call.closes);
        let mut request = call.request.map(|body| {
            if body.is_end_stream() {
                return Body::empty();
            }
            Body::new(RequestBody::new(body, Arc::clone(&exchange)))
        });
        request.extensions_mut().insert(ConnectInfo(call.peer));
        request.extensions_mut().insert(Arc::clone(&exchange));
        let responding = self.clone().call(request);
        let response = responding.map(move |Ok(response)| {
            let (mut head, body) = response.into_parts();
            let reservation = head.extensions.remove::<Arc<Reservation>>();
            let body = ResponseBody::new(body, Some(exchange), reservation);
            Ok(with_close(Response::from_parts(head, body), closes))
        });
        response.boxed()
    }
}

/// Spawns the tasks of one HTTP/2 connection, one per request, so that each can be aborted.
///
/// hyper calls the service and then, before it calls it again, the executor with the future that
/// drives the returned future and sends the response. Dropping that future resets the stream.
#[derive(Clone, Default)]
pub(super) struct StreamExecutor {
    next_exchange: Arc<Mutex<Weak<Exchange>>>,
}

impl StreamExecutor {
    /// Sets the exchange of the next task.
    fn set_next_exchange(&self, exchange: &Arc<Exchange>) {
        *self.next_exchange() = Arc::downgrade(exchange);
    }

    fn next_exchange(&self) -> MutexGuard<'_, Weak<Exchange>> {
        let next = self.next_exchange.lock();
        next.unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let task = tokio::spawn(future).abort_handle();
        let next = std::mem::take(&mut *self.next_exchange());
        if let Some(exchange) = next.upgrade() {
            exchange.set_task(task);
        }
    }
}
