use std::fmt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::Service;

use super::super::add_token::{AddServiceTokenLayer, TokenSourceError};
use super::client::ServiceTokensClient;
use super::config_error::ClientConfigError;
use super::sender::Sender;
use crate::transport::{BoxError, Endpoint, PlainHttp, Transport};

/// Configures a [`ServiceTokensClient`].
///
/// A token is required: [`with_token`](Self::with_token),
/// [`with_token_file`](Self::with_token_file) or [`with_token_env`](Self::with_token_env). The last
/// call wins.
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

impl ServiceTokensClient {
    /// Configures a client of the API at this URL, without `/service-tokens`:
    /// `https://tokens.example` or `https://example.com/tokens`.
    pub fn builder(url: impl Into<String>) -> ServiceTokensClientBuilder {
        ServiceTokensClientBuilder {
            url: url.into(),
            token: None,
            http: PlainHttp::LoopbackOnly,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            max_retries: 2,
            roots: None,
            transport: None,
        }
    }
}

impl ServiceTokensClientBuilder {
    /// Authenticates with this token.
    ///
    /// The token is sent as `Authorization: ApiKey` and marked sensitive. Whitespace
    /// around it is removed.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(AddServiceTokenLayer::new(token));
        self
    }

    /// Authenticates with the token in this file, and
    /// [reloads](AddServiceTokenLayer::from_file) it when the file changes.
    pub fn with_token_file(mut self, path: impl AsRef<Path>) -> Self {
        self.token = Some(AddServiceTokenLayer::from_file(path));
        self
    }

    /// Authenticates with the token in this environment variable, such as `SVCTOK_TOKEN`. It is read
    /// once, by this call.
    pub fn with_token_env(mut self, variable: &str) -> Self {
        self.token = Some(AddServiceTokenLayer::from_env(variable));
        self
    }

    /// Sets the timeout of a call, including its retries and pauses. The default is 30 s.
    ///
    /// [`revoke_where`](ServiceTokensClient::revoke_where) may take 40 s even if this is shorter,
    /// because the server works on one call for up to 20 s.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the timeout of a connection attempt, including name lookup and TLS. The default is 5 s.
    /// A [custom transport](Self::with_transport) ignores it.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the maximum number of retries, where a [retry is safe](crate::client#retries). The
    /// default is 2.
    pub fn with_max_retries(mut self, retries: u32) -> Self {
        self.max_retries = retries;
        self
    }

    /// Trusts these PEM certificates in addition to the system's. By default only the system's are
    /// trusted. A [custom transport](Self::with_transport) ignores them.
    #[cfg(feature = "rustls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rustls")))]
    pub fn with_root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots = Some(pem.into());
        self
    }

    /// Allows `http` to any host, where everyone on the network can read the tokens. By default only
    /// `https`, and `http` to 127.0.0.0/8, `[::1]` and `localhost`, are allowed.
    ///
    /// Use it only on a network that is encrypted by other means.
    pub fn dangerous_allow_http(mut self) -> Self {
        self.http = PlainHttp::Allow;
        self
    }

    /// Sends requests with this service, which must check certificates and must not follow redirects.
    /// The default is a pooled HTTP/1.1 client, with TLS if the feature `rustls` is on.
    ///
    /// If it cannot connect, it should return an [`io::Error`](std::io::Error) or an error of `hyper`
    /// or `hyper-util`, so that the client knows which requests are safe to retry.
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

    /// Builds the client. It sends nothing yet.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL, the token or the root certificates are invalid.
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
