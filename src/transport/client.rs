use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower::Service;
use tower::util::{BoxCloneSyncService, ServiceExt};

use super::body::{BoxBody, BoxError, boxed};
use super::connector;
use super::endpoint::{Endpoint, PlainHttp, TransportConfigError};
use super::send_error::SendError;
#[cfg(feature = "rustls")]
use super::tls;

type BoxService = BoxCloneSyncService<Request<Full<Bytes>>, Response<BoxBody>, BoxError>;

/// Sends requests. Clones share connections.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    service: BoxService,
    /// The same, but with a new connection for each request, if there is a difference.
    unpooled: BoxService,
    /// The error for `https`, if it cannot be sent.
    https: Result<(), TransportConfigError>,
}

impl Transport {
    /// Creates a transport from the user's own service.
    pub(crate) fn from_service<S, B>(service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let service = service.map_response(|response: Response<B>| response.map(boxed));
        let service = BoxCloneSyncService::new(service.map_err(Into::into));
        Self {
            unpooled: service.clone(),
            service,
            https: Ok(()),
        }
    }

    /// Creates a pooled HTTP/1.1 client. `connect_timeout` covers DNS, TCP and TLS together; `roots`
    /// are PEM certificates to trust in addition to the system's.
    ///
    /// Sending needs a Tokio runtime with its drivers enabled.
    #[cfg_attr(
        not(feature = "rustls"),
        expect(clippy::unnecessary_wraps, reason = "root certificates can be invalid")
    )]
    pub(crate) fn standard(
        connect_timeout: Duration,
        roots: Option<Vec<u8>>,
        http: PlainHttp,
    ) -> Result<Self, TransportConfigError> {
        let tcp = connector::tcp(connect_timeout);
        #[cfg(feature = "rustls")]
        let (connector, https) = {
            let system = tls::SystemCertificates::load();
            (tls::connector(tcp, &system, roots, http)?, system.check())
        };
        #[cfg(not(feature = "rustls"))]
        let (connector, https) = {
            // `Endpoint` already restricts the hosts for http.
            let _ = (roots, http);
            (tcp, Err(TransportConfigError::NoTls))
        };
        let client = |max_idle| {
            let client = connector::client(connector.clone(), connect_timeout, max_idle);
            Self::from_service(client).service
        };
        Ok(Self {
            service: client(usize::MAX),
            unpooled: client(0),
            https,
        })
    }

    /// Returns an error if requests to `endpoint` cannot be sent.
    pub(crate) fn check(&self, endpoint: &Endpoint) -> Result<(), TransportConfigError> {
        if endpoint.is_https() {
            return self.https.clone();
        }
        Ok(())
    }

    /// Sends `request` once. Timeouts besides the one for connecting are up to the caller, who may
    /// drop the future at any time.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<BoxBody>, SendError> {
        send(self.service.clone(), request).await
    }

    /// Sends `request` once, on a new connection: if a server closed one idle connection, it may be
    /// about to close the others.
    pub(crate) async fn send_on_new_connection(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<BoxBody>, SendError> {
        send(self.unpooled.clone(), request).await
    }
}

async fn send(
    service: BoxService,
    request: Request<Full<Bytes>>,
) -> Result<Response<BoxBody>, SendError> {
    let query = request.uri().query().map(str::to_owned);
    let response = service.oneshot(request).await;
    response.map_err(|error| SendError::new(&*error, query.as_deref()))
}
