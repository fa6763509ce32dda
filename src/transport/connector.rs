use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::timeout;
use tower::util::ServiceExt;
use tower::{Service, service_fn};

use super::body::BoxError;
use super::tracked_io::TrackedIo;

/// Node.js servers close a connection that was idle for 5 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

pub(super) fn tcp(connect_timeout: Duration) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    // Divided among the addresses of a name, so that an unreachable one leaves time for the next.
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp
}

/// Creates a client that does not retry, and keeps up to `max_idle` idle connections to a host. The
/// timeout covers everything a connection needs.
pub(super) fn client<C>(
    connector: C,
    connect_timeout: Duration,
    max_idle: usize,
) -> Client<impl Connect + Clone + Send + Sync + 'static, Full<Bytes>>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Unpin + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    let connector = service_fn(move |uri| {
        let connecting = timeout(connect_timeout, connector.clone().oneshot(uri));
        Box::pin(async move {
            let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "connecting timed out");
            let io = connecting.await.map_err(timed_out)?.map_err(Into::into)?;
            Ok::<_, BoxError>(TokioIo::new(TrackedIo::new(TokioIo::new(io))))
        })
    });
    Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(max_idle)
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .retry_canceled_requests(false)
        .build(connector)
}
