use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::activity::{Activity, CloseReason};
use super::connection_table::ConnectionGuard;
use super::request_service::{Listener, RequestService, StreamExecutor};
use super::write_timeout::WriteTimeout;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a new connection may take to send its first request.
pub(super) const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may take to send the whole head of the next request. Proxies and clients
/// keep idle connections for less, so that they close them and lose no request.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(95);

/// The age at which a connection accepts no more requests, so that clients spread over new nodes.
pub(super) const MAX_AGE: Duration = Duration::from_secs(3600);

/// The age of a reserved connection at which it accepts no more requests.
pub(super) const RESERVED_AGE: Duration = Duration::from_secs(5);

/// How long a connection that accepts no more requests waits for its client to close it.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The silence after which an HTTP/2 client is sent a PING.
const PING_INTERVAL: Duration = Duration::from_secs(30);

const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum bytes of the head of an HTTP/1.1 request, as nginx forwards by default.
const MAX_HTTP1_HEAD: usize = 16 * 1024;

/// The maximum bytes of the header list of an HTTP/2 request, as RFC 9113 counts them.
const MAX_HTTP2_HEAD: u32 = 16 * 1024;

/// The maximum number of concurrent requests of an HTTP/2 connection.
pub(super) const MAX_STREAMS: u32 = 16;

/// The bytes of one body that a client may send before the service reads them.
const STREAM_WINDOW: u32 = 4 * 1024;

/// The bytes of all bodies of a connection that a client may send before the service reads them. This
/// is the minimum of HTTP/2.
const CONNECTION_WINDOW: u32 = 65_535;

/// The bytes of one response that hyper may buffer.
const SEND_BUFFER: usize = 16 * 1024;

/// A connection that was admitted.
pub(super) struct Connection {
    pub(super) listener: Arc<Listener>,
    pub(super) peer: SocketAddr,
    pub(super) activity: Arc<Activity>,
    /// Whether the connection is beyond the limit and serves only health and metrics.
    pub(super) is_reserved: bool,
    /// The entry in the table, until the connection is dropped. `None` in tests.
    #[expect(dead_code, reason = "dropped with the connection")]
    pub(super) guard: Option<ConnectionGuard>,
}

impl Connection {
    pub(super) async fn serve(self, stream: TcpStream, mut stopping: watch::Receiver<bool>) {
        // A connection works without it, but slower.
        let _ = stream.set_nodelay(true);
        let stream = WriteTimeout::new(stream);
        let peer = self.peer;
        let Some(tls) = self.listener.tls.clone() else {
            return self.serve_http(stream, stopping).await;
        };
        let handshake = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
        tokio::select! {
            () = stopped(&mut stopping) => {}
            reason = self.activity.closed() => count_closed(self.listener.name, reason.label()),
            result = handshake => match result {
                Ok(Ok(stream)) => self.serve_http(stream, stopping).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
            }
        }
    }

    pub(super) async fn serve_http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        mut stopping: watch::Receiver<bool>,
    ) {
        let executor = StreamExecutor::default();
        let request_service = RequestService {
            listener: Arc::clone(&self.listener),
            peer: self.peer,
            activity: Arc::clone(&self.activity),
            is_reserved: self.is_reserved,
            executor: executor.clone(),
        };
        let service = service_fn(move |request| request_service.call(request));
        let http = protocol(executor);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let mut expired = pin!(self.expired());
        let mut drained = pin!(self.drained());
        let (mut is_expired, mut is_stopping) = (false, false);
        loop {
            let accepts_requests = !is_expired && !is_stopping;
            tokio::select! {
                ended = &mut connection => {
                    if let Err(error) = ended {
                        let peer = self.peer;
                        tracing::debug!(%peer, error, "the connection ended");
                    }
                    return;
                }
                reason = self.activity.closed() => {
                    count_closed(self.listener.name, reason.label());
                    connection.as_mut().graceful_shutdown();
                    return flush_once(connection).await;
                }
                reason = &mut expired, if accepts_requests => {
                    is_expired = true;
                    count_closed(self.listener.name, reason.label());
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut drained, if !accepts_requests => return,
                () = stopped(&mut stopping), if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    /// Waits until the connection is to accept no more requests.
    async fn expired(&self) -> CloseReason {
        let opened = Instant::now();
        let max_age = if self.is_reserved {
            RESERVED_AGE
        } else {
            MAX_AGE
        };
        // Nothing else limits the time for the first head.
        sleep(FIRST_REQUEST_TIMEOUT.min(max_age)).await;
        if !self.activity.has_had_request() {
            return CloseReason::Idle;
        }
        loop {
            if opened.elapsed() >= max_age {
                return CloseReason::Age;
            }
            let since = self.activity.without_request_since();
            let idle_at = since.unwrap_or_else(Instant::now) + IDLE_TIMEOUT;
            if idle_at <= Instant::now() {
                return CloseReason::Idle;
            }
            sleep_until(idle_at.min(opened + max_age)).await;
        }
    }

    /// Waits until the client has had time to close a connection that accepts no more requests.
    async fn drained(&self) {
        loop {
            sleep(DRAIN_TIMEOUT).await;
            let since = self.activity.without_request_since();
            if since.is_some_and(|since| since.elapsed() >= DRAIN_TIMEOUT) {
                return;
            }
        }
    }
}

fn protocol(executor: StreamExecutor) -> Builder<StreamExecutor> {
    let mut http = Builder::new(executor);
    // `expired` limits the time for a head: hyper would set a timer for each request. It relies on
    // every exchange to end with its response.
    http.http1()
        .header_read_timeout(None)
        .max_buf_size(MAX_HTTP1_HEAD);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HTTP2_HEAD)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    http
}

/// Lets a connection write what the socket accepts at once, such as a GOAWAY frame.
async fn flush_once(mut connection: Pin<&mut impl Future>) {
    poll_fn(|cx| {
        let _ = connection.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
}

/// Counts a connection that the service closed.
pub(super) fn count_closed(listener: &'static str, reason: &'static str) {
    let labels = [("listener", listener), ("reason", reason)];
    metrics::counter!("svctok_connections_closed_total", &labels).increment(1);
}

pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Without a sender, no stop can arrive.
    if stopping.wait_for(|stopping| *stopping).await.is_err() {
        std::future::pending::<()>().await;
    }
}
