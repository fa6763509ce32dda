use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::Uri;
use http_body_util::Full;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::timeout;
use tower::Service;

use super::BoxError;
use super::tracked_io::TrackedIo;

/// Node servers close a connection that was idle for 5 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Connects within a time limit that covers all there is to it.
#[derive(Clone, Debug)]
pub(super) struct Connector<C> {
    inner: C,
    limit: Duration,
}

pub(super) fn tcp(connect_timeout: Duration) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    // Divided among the addresses of a name, so that a dead one leaves time for the next.
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp
}

/// What becomes of a connection that has done its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    Enabled,
    Disabled,
}

/// Leaves trying again to the caller.
pub(super) fn client<C>(
    connector: C,
    connect_timeout: Duration,
    pool: Pool,
) -> Client<Connector<C>, Full<Bytes>>
where
    C: Service<Uri> + Clone + Send + 'static,
    C::Response: Connection + Read + Write + Unpin + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    let max_idle = match pool {
        Pool::Enabled => usize::MAX,
        Pool::Disabled => 0,
    };
    Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(max_idle)
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .retry_canceled_requests(false)
        .build(Connector {
            inner: connector,
            limit: connect_timeout,
        })
}

impl<C> Service<Uri> for Connector<C>
where
    C: Service<Uri>,
    C::Response: Connection + Read + Write + Unpin + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = TokioIo<TrackedIo<TokioIo<C::Response>>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = timeout(self.limit, self.inner.call(uri));
        Box::pin(async move {
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "connecting took too long");
            let io = connecting.await.map_err(late)?.map_err(Into::into)?;
            Ok(TokioIo::new(TrackedIo::new(TokioIo::new(io))))
        })
    }
}
