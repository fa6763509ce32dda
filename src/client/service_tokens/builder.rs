use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::Service;

use super::client::ServiceTokensClient;
use super::config_error::ClientConfigError;
use super::sender::Sender;
use crate::client::{AddServiceTokenLayer, TokenSourceError};
use crate::clock::SystemClock;
use crate::transport::{BoxError, Endpoint, PlainHttp, Transport};

/// Sets up a [`ServiceTokensClient`].
///
/// It needs a token: [`with_token`](Self::with_token),
/// [`with_token_file`](Self::with_token_file) or [`with_token_env`](Self::with_token_env), the last
/// of which counts.
///
/// ```
/// use std::time::Duration;
/// use tower_service_token::client::ServiceTokensClient;
///
/// let tokens = ServiceTokensClient::builder("http://127.0.0.1:8080/tokens")
///     .with_token("svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n")
///     .with_timeout(Duration::from_secs(10))
///     .with_max_retries(5)
///     .build()?;
/// # Ok::<_, tower_service_token::client::ClientConfigError>(())
/// ```
#[must_use]
pub struct ServiceTokensClientBuilder {
    url: String,
    token: Option<Result<AddServiceTokenLayer, TokenSourceError>>,
    http: PlainHttp,
    timeout: Duration,
    connect_timeout: Duration,
    max_retries: u32,
    roots: Option<Vec<u8>>,
    transport: Option<Transport>,
}

impl ServiceTokensClientBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            token: None,
            http: PlainHttp::LoopbackOnly,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            max_retries: 2,
            roots: None,
            transport: None,
        }
    }

    /// Authenticates with this token. Default: none, and one is needed.
    ///
    /// It goes as `Authorization: ApiKey`, marked sensitive. An end of line is left out.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(AddServiceTokenLayer::new(token));
        self
    }

    /// Authenticates with the token in this file, as it is now and as it will be: it is
    /// [followed](AddServiceTokenLayer::from_file) as it is rotated. Default: none.
    pub fn with_token_file(mut self, path: impl AsRef<Path>) -> Self {
        self.token = Some(AddServiceTokenLayer::from_file(path));
        self
    }

    /// Authenticates with the token in this variable of the environment, such as `SVCTOK_TOKEN`,
    /// which is read once, now. Default: none.
    pub fn with_token_env(mut self, variable: &str) -> Self {
        self.token = Some(AddServiceTokenLayer::from_env(variable));
        self
    }

    /// How long a call may take in all, with all its tries and the pauses between. Default: 30 s.
    ///
    /// [`revoke_where`](ServiceTokensClient::revoke_where) may take 40 s even if this is shorter: the
    /// server works on one call for up to 20 s.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long making a connection may take, name lookup and TLS included. Default: 5 s. Not for
    /// a [transport of your own](Self::with_transport).
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How often a call is sent again, where [that does no harm](crate::client#retries). Default: 2; 0: it
    /// is sent once.
    pub fn with_max_retries(mut self, retries: u32) -> Self {
        self.max_retries = retries;
        self
    }

    /// Trusts these certificates, in PEM, besides the system's. Default: none. Not for a
    /// [transport of your own](Self::with_transport).
    #[cfg(feature = "rustls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rustls")))]
    pub fn with_root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots = Some(pem.into());
        self
    }

    /// Takes `http` to any host, where everyone on the way can read the tokens that are sent and
    /// those that are made. Default: `https`, or `http` to 127.0.0.0/8, `[::1]` and `localhost`.
    ///
    /// For a network that is encrypted by other means.
    pub fn dangerous_allow_http(mut self) -> Self {
        self.http = PlainHttp::Allow;
        self
    }

    /// Sends requests by this service, which must check certificates and must follow no redirects.
    /// Default: a pooled HTTP/1.1 client, with TLS by the feature `rustls`.
    ///
    /// A connection that it cannot make should end in an [`io::Error`](std::io::Error) or an error
    /// of `hyper` or `hyper-util`: by these it is told what may be sent again.
    pub fn with_transport<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        self.transport = Some(Transport::from_service(service));
        self
    }

    /// The client. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// The URL, the token or the root certificates cannot be used.
    pub fn build(self) -> Result<ServiceTokensClient, ClientConfigError> {
        let endpoint = Endpoint::parse(&self.url, self.http)?;
        if endpoint.uri().query().is_some() {
            return Err(ClientConfigError::Query);
        }
        let token = self.token.ok_or(ClientConfigError::NoToken)??;
        let transport = match self.transport {
            Some(transport) => transport,
            None => Transport::standard(self.connect_timeout, self.roots, self.http)?,
        };
        transport.check(&endpoint)?;
        Ok(ServiceTokensClient::new(Sender {
            endpoint,
            token,
            transport,
            timeout: self.timeout,
            max_retries: self.max_retries,
            clock: Arc::new(SystemClock),
        }))
    }
}

impl fmt::Debug for ServiceTokensClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceTokensClientBuilder")
            .field("http", &self.http)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("max_retries", &self.max_retries)
            .finish_non_exhaustive()
    }
}
