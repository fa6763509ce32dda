//! What carries a request to another server, and tells how far it came.
//!
//! 1. Any `tower::Service` of HTTP requests, or a [standard](Transport::standard) client.
//! 2. One attempt each: whether to try again is up to the caller, who is told whether the server
//!    can have seen the request.
//! 3. No redirect is followed and no proxy of the environment is used by the standard client.

mod config_error;
mod connector;
mod endpoint;
mod send_error;
#[cfg(test)]
mod tests;
#[cfg(feature = "rustls")]
mod tls;
mod tracked_io;

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tower::Service;

pub(crate) use self::config_error::TransportConfigError;
use self::connector::Pool;
pub(crate) use self::endpoint::{Endpoint, PlainHttp};
use self::send_error::error_chain;
pub(crate) use self::send_error::{SendError, SendErrorKind};

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
pub(crate) type BoxBody = UnsyncBoxBody<Bytes, BoxError>;

/// Up to which length room is made for a body that was only announced.
const MAX_PREALLOCATION: usize = 64 * 1024;

/// Sends requests. Clones share connections.
#[derive(Clone)]
pub(crate) struct Transport {
    service: Arc<dyn ErasedService>,
    /// The same on connections that were never used, where that makes a difference.
    unpooled: Arc<dyn ErasedService>,
    supports_https: bool,
}

/// A service whose types are forgotten.
trait ErasedService: Send + Sync {
    fn call(
        &self,
        request: Request<Full<Bytes>>,
    ) -> BoxFuture<'static, Result<Response<BoxBody>, BoxError>>;
}

struct TypedService<S, B> {
    service: S,
    body: PhantomData<fn() -> B>,
}

/// An answer's body could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadBodyError {
    #[error("the body is too long")]
    TooLarge,
    #[error("the body could not be read to its end")]
    Failed(#[source] BoxError),
}

impl Transport {
    /// A transport of the user's own.
    pub(crate) fn from_service<S, B>(service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let service = erase(service);
        Self {
            unpooled: Arc::clone(&service),
            service,
            supports_https: true,
        }
    }

    /// A pooled HTTP/1.1 client. `connect_timeout` is for DNS, TCP and TLS together, `roots` is a
    /// PEM of certificates to be trusted besides the system's.
    ///
    /// # Panics
    ///
    /// Not here, but [`send`](Self::send) needs a Tokio runtime with its drivers enabled.
    #[cfg_attr(
        not(feature = "rustls"),
        expect(clippy::unnecessary_wraps, reason = "roots of TLS can be wrong")
    )]
    pub(crate) fn standard(
        connect_timeout: Duration,
        roots: Option<Vec<u8>>,
        http: PlainHttp,
    ) -> Result<Self, TransportConfigError> {
        let tcp = connector::tcp(connect_timeout);
        #[cfg(feature = "rustls")]
        let connector = tls::connector(tcp, roots, http)?;
        #[cfg(not(feature = "rustls"))]
        let connector = {
            // Each endpoint is checked, so that an http request goes where it may.
            let _ = (roots, http);
            tcp
        };
        let client = |pool| connector::client(connector.clone(), connect_timeout, pool);
        Ok(Self {
            service: erase(client(Pool::Enabled)),
            unpooled: erase(client(Pool::Disabled)),
            supports_https: cfg!(feature = "rustls"),
        })
    }

    /// Whether requests to `endpoint` can be sent.
    pub(crate) fn check(&self, endpoint: &Endpoint) -> Result<(), TransportConfigError> {
        if endpoint.is_https() && !self.supports_https {
            return Err(TransportConfigError::NoTls);
        }
        Ok(())
    }

    /// Sends `request` once. Time limits besides the one for connecting are up to the caller, who
    /// may drop the future at any time.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<BoxBody>, SendError> {
        send_by(&*self.service, request).await
    }

    /// As [`send`](Self::send), on a connection of its own: a server that closed one idle
    /// connection may be about to close the others.
    pub(crate) async fn send_on_new_connection(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<BoxBody>, SendError> {
        send_by(&*self.unpooled, request).await
    }
}

async fn send_by(
    service: &dyn ErasedService,
    request: Request<Full<Bytes>>,
) -> Result<Response<BoxBody>, SendError> {
    let query = request.uri().query().map(str::to_owned);
    let answer = service.call(request).await;
    answer.map_err(|error| SendError::new(&*error, query.as_deref()))
}

fn erase<S, B>(service: S) -> Arc<dyn ErasedService>
where
    TypedService<S, B>: ErasedService + 'static,
{
    Arc::new(TypedService {
        service,
        body: PhantomData,
    })
}

impl<S, B> ErasedService for TypedService<S, B>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    fn call(
        &self,
        request: Request<Full<Bytes>>,
    ) -> BoxFuture<'static, Result<Response<BoxBody>, BoxError>> {
        let mut service = self.service.clone();
        Box::pin(async move {
            let ready = poll_fn(|cx| service.poll_ready(cx)).await;
            ready.map_err(Into::into)?;
            let answer = service.call(request).await.map_err(Into::into)?;
            Ok(answer.map(boxed))
        })
    }
}

fn boxed<B>(body: B) -> BoxBody
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    let body =
        body.map_frame(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())));
    body.map_err(Into::into).boxed_unsync()
}

/// The whole of `body`, if it is of `limit` bytes at most.
pub(crate) async fn read_body(mut body: BoxBody, limit: usize) -> Result<Bytes, ReadBodyError> {
    // Room for a short body at once: what it grew out of may be a part of a secret.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
    let mut read = BytesMut::with_capacity(announced.min(limit).min(MAX_PREALLOCATION));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ReadBodyError::Failed(error_chain(&*error).into()))?;
        // What is no data are trailers.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if data.len() > limit - read.len() {
            return Err(ReadBodyError::TooLarge);
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}
