use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::Service;

use super::breaker::Breaker;
use super::client::Client;
use super::client_auth::ClientAuth;
use super::config::Config;
use super::config_error::IntrospectionConfigError;
use super::discovery::{Discovered, discover};
use super::discovery_error::DiscoveryError;
use super::store::IntrospectionStore;
use super::times::Leeway;
use crate::clock::Clock;
use crate::single_flight::{MAX_NEGATIVE_TTL, SingleFlight};
use crate::token::{PresentedToken, TokenFormat};
use crate::transport::{BoxError, Endpoint, PlainHttp, Transport};

/// Builds an [`IntrospectionStore`].
///
/// Finish with [`build`](Self::build) if you know the endpoint, or with [`discover`](Self::discover).
#[derive(Debug)]
#[must_use]
pub struct IntrospectionBuilder {
    config: Config,
}

impl IntrospectionStore {
    /// Creates a builder for a store that authenticates to the server with `auth`.
    pub fn builder(auth: ClientAuth) -> IntrospectionBuilder {
        IntrospectionBuilder {
            config: Config::new(auth),
        }
    }
}

impl IntrospectionBuilder {
    /// Creates a store that calls `endpoint`. Sends nothing yet.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL, the client's credentials or the root certificates are invalid.
    pub fn build(self, endpoint: &str) -> Result<IntrospectionStore, IntrospectionConfigError> {
        let endpoint = Endpoint::parse(endpoint, self.config.http)?;
        let transport = self.transport()?;
        self.finish(endpoint, transport)
    }

    /// Creates a store that calls the endpoint in the issuer's metadata, which is at
    /// `/.well-known/oauth-authorization-server` (RFC 8414 §3) or at
    /// `/.well-known/openid-configuration`.
    ///
    /// Sets the required [issuer](Self::with_issuer) of tokens. It must equal the issuer in the
    /// metadata. This method does not retry; do so if your service starts before the server.
    ///
    /// # Errors
    ///
    /// Returns an error in the cases of [`build`](Self::build), and if the metadata is unavailable or
    /// has no endpoint.
    pub async fn discover(self, issuer: &str) -> Result<IntrospectionStore, DiscoveryError> {
        let transport = self.transport()?;
        let (http, timeout) = (self.config.http, self.config.policy.timeout);
        let Discovered { endpoint, issuer } = discover(&transport, issuer, http, timeout).await?;
        Ok(self.with_issuer(issuer).finish(endpoint, transport)?)
    }

    /// Requires the audience `audience` in `aud`. By default any audience is accepted.
    ///
    /// Set it if the server issues tokens for more than one service: otherwise a token that was given to
    /// another service is accepted here too (RFC 7662 §4).
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.config.rules.audience = Some(audience.into());
        self
    }

    /// Requires the issuer `issuer` of tokens that have `iss`. By default any issuer is accepted.
    ///
    /// It is also the default audience of a [`PrivateKeyJwt`](super::PrivateKeyJwt).
    pub fn with_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.config.rules.issuer = Some(issuer.into());
        self
    }

    /// Requires `iss`. It is optional by default.
    pub fn require_issuer(mut self) -> Self {
        self.config.rules.requires_issuer = true;
        self
    }

    /// Sets which claim holds the roles: a member's name, or names separated by dots such as
    /// `realm_access.roles`. By default tokens have no roles.
    ///
    /// The value is an array of strings, or a string of words. A value of another type gives no roles and
    /// logs a warning.
    pub fn with_role_claim(mut self, path: impl Into<String>) -> Self {
        self.config.rules.claims_parser.role_claim = Some(path.into());
        self
    }

    /// Sets which member holds the labels, an object of strings. By default tokens have no labels. This
    /// crate's own `/introspect` calls it `labels`.
    pub fn with_labels_claim(mut self, name: impl Into<String>) -> Self {
        self.config.rules.claims_parser.labels_claim = Some(name.into());
        self
    }

    /// Maps the server's scopes, or drops them with `None`. Called once per response. By default scopes are
    /// unchanged.
    ///
    /// ```
    /// use tower_service_token::introspection::{ClientAuth, IntrospectionStore};
    ///
    /// let builder = IntrospectionStore::builder(ClientAuth::basic("orders", "secret"))
    ///     .with_scope_mapping(|scope| scope.strip_prefix("orders/").map(Into::into));
    /// ```
    pub fn with_scope_mapping(
        mut self,
        map: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.config.rules.scope_mapping = Some(Arc::new(map));
        self
    }

    /// Accepts tokens with neither `sub` nor `client_id`. By default they are rejected, so that a bare
    /// `{"active":true}` identifies no caller.
    pub fn allow_missing_subject(mut self) -> Self {
        self.config.rules.allows_missing_subject = true;
        self
    }

    /// Accepts `scope` as an array, and times as strings of digits. By default such a response is malformed
    /// (503).
    pub fn lenient(mut self) -> Self {
        self.config.rules.claims_parser.is_lenient = true;
        self
    }

    /// Accepts a token for this long after its `exp`, for a server whose clock is behind. The default is
    /// 0 s, the maximum 5 min.
    ///
    /// [`Principal::expires_at`](crate::Principal::expires_at) includes it.
    pub fn with_expiry_leeway(mut self, leeway: Duration) -> Self {
        self.config.rules.claims_parser.leeway.expiry = leeway.min(Leeway::MAX);
        self
    }

    /// Accepts a token for this long before its `nbf` or `iat`, for a server whose clock is ahead. The
    /// default is 5 s, the maximum 5 min.
    pub fn with_start_leeway(mut self, leeway: Duration) -> Self {
        self.config.rules.claims_parser.leeway.start = leeway.min(Leeway::MAX);
        self
    }

    /// Rejects tokens that do not match this filter without a call. By default all tokens match.
    ///
    /// ```
    /// use tower_service_token::introspection::{ClientAuth, IntrospectionStore};
    ///
    /// let builder = IntrospectionStore::builder(ClientAuth::basic("orders", "secret"))
    ///     .with_token_filter(|token| token.expose_secret().starts_with("at_"));
    /// ```
    pub fn with_token_filter(
        mut self,
        admits: impl Fn(&PresentedToken<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.config.token_filter = Some(Arc::new(admits));
        self
    }

    /// Sets the format of this service's own tokens. Tokens of this format with a wrong checksum are rejected
    /// without a call. The default is the prefix `svctok-`.
    pub fn with_token_format(mut self, format: TokenFormat) -> Self {
        self.config.format = format;
        self
    }

    /// Sets the longest token for which the server is called, in bytes. The default is 4,096.
    ///
    /// The layer has [a limit of its own](crate::ServiceTokenLayer::with_max_token_length).
    pub fn with_max_token_length(mut self, bytes: usize) -> Self {
        self.config.max_token_length = bytes;
        self
    }

    /// Calls the server for tokens of any visible ASCII characters. By default only for those that bearer
    /// tokens may have (RFC 6750 §2.1, `b64token`).
    pub fn allow_any_visible_ascii(mut self) -> Self {
        self.config.allows_any_visible_ascii = true;
        self
    }

    /// Sends this `token_type_hint` (RFC 7662 §2.1). Unset by default: some servers respond that a valid token
    /// is inactive if they do not know the hint.
    pub fn with_token_type_hint(mut self, hint: impl Into<String>) -> Self {
        self.config.token_type_hint = Some(hint.into());
        self
    }

    /// Sets how long an active token is cached. The default is 10 s. A token that was revoked at the server
    /// is accepted for this long. 0 disables the cache and the sharing of calls.
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.config.policy.ttl = ttl;
        self
    }

    /// Sets how long an inactive token is cached. The default is 2 s, the maximum 10 s; 0 disables it.
    pub fn with_negative_ttl(mut self, ttl: Duration) -> Self {
        self.config.policy.negative_ttl = ttl.min(MAX_NEGATIVE_TTL);
        self
    }

    /// Sets about how many active tokens are cached. The default is 10,000.
    pub fn with_capacity(mut self, tokens: usize) -> Self {
        self.config.policy.capacity = tokens;
        self
    }

    /// Sets about how many inactive tokens are cached. The default is 10,000.
    pub fn with_negative_capacity(mut self, tokens: usize) -> Self {
        self.config.policy.negative_capacity = tokens;
        self
    }

    /// Sets about how much memory active tokens may use, in bytes. The default is 16 MiB.
    pub fn with_max_weight(mut self, bytes: usize) -> Self {
        self.config.policy.max_weight = Some(bytes);
        self
    }

    /// Sets how long an expired entry of an active token is used while the server is unavailable. The
    /// default is 0, never.
    ///
    /// A token that is revoked during an outage is accepted for this long. Expired entries are used only if
    /// the server is unreachable, timed out or responded with 429 or 5xx; never past the token's own expiry,
    /// and never after the server said that the token is inactive. See
    /// [`Principal::is_stale`](crate::Principal::is_stale).
    pub fn with_stale_if_error(mut self, time: Duration) -> Self {
        self.config.stale_if_error = time;
        self
    }

    /// Sets how long a lookup may take, including the retry, and how long each request waits for it. The
    /// default is 3 s.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.config.policy.timeout = timeout;
        self
    }

    /// Sets how long connecting may take, including DNS and TLS. The default is 1 s. Does not apply to a
    /// [custom transport](Self::with_transport).
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// Sets how many calls may be in progress. The default is 64, the minimum 1. A request beyond that waits
    /// for up to 0.5 s, then gets 503.
    pub fn with_max_in_flight(mut self, calls: usize) -> Self {
        self.config.policy.max_in_flight = calls;
        self
    }

    /// Sets after how many consecutive failures the circuit breaker opens. The default is 5, the minimum 1.
    ///
    /// Only failures that no token can cause count: a timeout, an unreachable server, and the statuses 429,
    /// 502, 503 and 504.
    pub fn with_breaker_threshold(mut self, failures: u32) -> Self {
        self.config.breaker_threshold = failures;
        self
    }

    /// Allows `http` for 127.0.0.0/8, `[::1]` and `localhost`. By default only `https` is allowed.
    pub fn allow_http_to_loopback(mut self) -> Self {
        self.config.http = PlainHttp::LoopbackOnly;
        self
    }

    /// Trusts these PEM certificates in addition to the system's. Does not apply to a
    /// [custom transport](Self::with_transport).
    #[cfg(feature = "rustls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rustls")))]
    pub fn with_root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.config.roots = Some(pem.into());
        self
    }

    /// Sends requests through this service, which must check certificates and must not follow redirects. The
    /// default is a pooled HTTP/1.1 client, with TLS if the feature `rustls` is on.
    ///
    /// Report a failed connection as an [`io::Error`](std::io::Error) or as an error of `hyper` or
    /// `hyper-util`: only these are retried.
    pub fn with_transport<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        self.config.transport = Some(Transport::from_service(service));
        self
    }

    /// Sets the clock for ages and expiries. The default is [`SystemClock`](crate::clock::SystemClock).
    /// Timeouts use the runtime's clock.
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.config.policy.clock = Arc::new(clock);
        self
    }

    fn transport(&self) -> Result<Transport, IntrospectionConfigError> {
        let config = &self.config;
        if let Some(transport) = &config.transport {
            return Ok(transport.clone());
        }
        let roots = config.roots.clone();
        Ok(Transport::standard(
            config.connect_timeout,
            roots,
            config.http,
        )?)
    }

    fn finish(
        self,
        endpoint: Endpoint,
        transport: Transport,
    ) -> Result<IntrospectionStore, IntrospectionConfigError> {
        let config = self.config;
        config.auth.check(config.rules.issuer.as_deref())?;
        transport.check(&endpoint)?;
        Ok(IntrospectionStore {
            lookups: SingleFlight::new(config.policy.clone()),
            hits: Arc::default(),
            breaker: Breaker::new(config.breaker_threshold),
            client: Arc::new(Client {
                config,
                endpoint,
                transport,
            }),
        })
    }
}
