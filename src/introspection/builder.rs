use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::Service;

use super::IntrospectionStore;
use super::breaker::Breaker;
use super::cache::ResponseCache;
use super::client::Client;
use super::client_auth::ClientAuth;
use super::config_error::IntrospectionConfigError;
use super::core::{Core, Settings, TokenPrecheck};
use super::discovery::{Discovered, DiscoveryError, discover};
use super::lookups::Lookups;
use super::rules::Rules;
use crate::clock::{Clock, SystemClock};
use crate::digest::DigestKey;
use crate::token::{PresentedToken, TokenFormat};
use crate::transport::{BoxError, Endpoint, PlainHttp, Transport};

const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(10);

/// Sets up an [`IntrospectionStore`].
///
/// Ends with [`build`](Self::build), if the endpoint is known, or with
/// [`discover`](Self::discover).
#[must_use]
pub struct IntrospectionBuilder {
    auth: ClientAuth,
    rules: Rules,
    precheck: TokenPrecheck,
    settings: Settings,
    hint: Option<String>,
    capacity: usize,
    negative_capacity: usize,
    max_weight: usize,
    max_in_flight: usize,
    breaker_threshold: u32,
    connect_timeout: Duration,
    http: PlainHttp,
    roots: Option<Vec<u8>>,
    transport: Option<Transport>,
    clock: Arc<dyn Clock>,
}

impl IntrospectionBuilder {
    pub(super) fn new(auth: ClientAuth) -> Self {
        Self {
            auth,
            rules: Rules::default(),
            precheck: TokenPrecheck {
                format: TokenFormat::default(),
                max_length: 4_096,
                allows_any_visible_ascii: false,
                filter: None,
            },
            settings: Settings {
                ttl: Duration::from_secs(10),
                negative_ttl: Duration::from_secs(2),
                stale_if_error: Duration::ZERO,
                timeout: Duration::from_secs(3),
            },
            hint: None,
            capacity: 10_000,
            negative_capacity: 10_000,
            max_weight: 16 << 20,
            max_in_flight: 64,
            breaker_threshold: 5,
            connect_timeout: Duration::from_secs(1),
            http: PlainHttp::Deny,
            roots: None,
            transport: None,
            clock: Arc::new(SystemClock),
        }
    }

    /// The store that asks this endpoint. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// The URL, the client's credentials or the root certificates cannot be used.
    pub fn build(self, endpoint: &str) -> Result<IntrospectionStore, IntrospectionConfigError> {
        let endpoint = Endpoint::parse(endpoint, self.http)?;
        let transport = self.transport()?;
        self.finish(endpoint, transport)
    }

    /// The store that asks the endpoint which the server of this issuer publishes: in
    /// `/.well-known/oauth-authorization-server` (RFC 8414 §3), or else in
    /// `/.well-known/openid-configuration`.
    ///
    /// The issuer becomes the one that [tokens must come from](Self::with_issuer). It must be what
    /// the server calls itself, to the letter. Nothing is tried again: do that where it makes
    /// sense, as at the start of a service.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build); the server could not be asked, or publishes no endpoint.
    pub async fn discover(self, issuer: &str) -> Result<IntrospectionStore, DiscoveryError> {
        let transport = self.transport()?;
        let timeout = self.settings.timeout;
        let found = discover(&transport, issuer, self.http, timeout).await?;
        let Discovered { endpoint, issuer } = found;
        Ok(self.with_issuer(issuer).finish(endpoint, transport)?)
    }

    /// Only tokens that name this audience in `aud` pass. Default: any.
    ///
    /// Set it wherever the server issues tokens for more than one service: a token that another
    /// service was trusted with must not open this one (RFC 7662 §4).
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.rules.audience = Some(audience.into());
        self
    }

    /// A token that names an issuer in `iss` must name this one. Default: any.
    ///
    /// It is also whom a [`PrivateKeyJwt`](super::PrivateKeyJwt) is for.
    pub fn with_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.rules.issuer = Some(issuer.into());
        self
    }

    /// A token must name an issuer. Default: it need not.
    pub fn require_issuer(mut self) -> Self {
        self.rules.requires_issuer = true;
        self
    }

    /// Where the roles stand: a member's name, or names parted by dots, as `realm_access.roles`.
    /// Default: nowhere, so nobody has a role.
    ///
    /// The value is an array of strings, or a string of words. Any other gives no roles, and a
    /// warning.
    pub fn with_role_claim(mut self, path: impl Into<String>) -> Self {
        self.rules.claims_parser.role_claim = Some(path.into());
        self
    }

    /// Which member holds the labels, an object of strings. Default: none.
    /// This crate's own `/introspect` calls it `labels`.
    pub fn with_labels_claim(mut self, name: impl Into<String>) -> Self {
        self.rules.claims_parser.labels_claim = Some(name.into());
        self
    }

    /// Renames the server's scopes, or leaves them out with `None`. Asked when an answer arrives.
    /// Default: they stay as they are.
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
        self.rules.scope_mapping = Some(Arc::new(map));
        self
    }

    /// Lets tokens pass of which the server names neither `sub` nor `client_id`. Default: such a
    /// token is refused, so that a bare `{"active":true}` authenticates nobody.
    pub fn allow_missing_subject(mut self) -> Self {
        self.rules.allows_missing_subject = true;
        self
    }

    /// Takes `scope` as an array too, and times as strings of digits. Default: such an answer is
    /// none (503).
    pub fn lenient(mut self) -> Self {
        self.rules.claims_parser.is_lenient = true;
        self
    }

    /// Asks only about tokens that pass this filter; all others are refused. Default: all pass.
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
        self.precheck.filter = Some(Arc::new(admits));
        self
    }

    /// What this service's own tokens look like: one with a bad checksum is refused without a
    /// call. Default: prefix `svctok-`.
    pub fn with_token_format(mut self, format: TokenFormat) -> Self {
        self.precheck.format = format;
        self
    }

    /// The longest token that is asked about, in bytes. Default: 4,096.
    ///
    /// The layer has [a limit of its own](crate::ServiceTokenLayer::with_max_token_length).
    pub fn with_max_token_length(mut self, bytes: usize) -> Self {
        self.precheck.max_length = bytes;
        self
    }

    /// Asks about tokens of any visible ASCII. Default: only of the characters that bearer tokens
    /// have (RFC 6750 §2.1, `b64token`).
    pub fn allow_any_visible_ascii(mut self) -> Self {
        self.precheck.allows_any_visible_ascii = true;
        self
    }

    /// Sends this `token_type_hint` (RFC 7662 §2.1). Default: none. Some servers call a live token
    /// inactive for a hint that they do not know.
    pub fn with_token_type_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// For how long an active token is remembered: *the* window in which a token that was revoked
    /// at the server still works here. Default: 10 s. 0 remembers nothing, and every request asks
    /// for itself.
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.settings.ttl = ttl;
        self
    }

    /// For how long it is remembered that a token is not active. Default: 2 s; at most 10 s; 0:
    /// not at all.
    pub fn with_negative_ttl(mut self, ttl: Duration) -> Self {
        self.settings.negative_ttl = ttl.min(MAX_NEGATIVE_TTL);
        self
    }

    /// About how many active tokens are remembered at most. Default: 10,000.
    pub fn with_capacity(mut self, tokens: usize) -> Self {
        self.capacity = tokens;
        self
    }

    /// About how many inactive tokens are remembered at most. Default: 10,000.
    pub fn with_negative_capacity(mut self, tokens: usize) -> Self {
        self.negative_capacity = tokens;
        self
    }

    /// About how much memory active tokens take at most, in bytes. Default: 16 MiB.
    pub fn with_max_weight(mut self, bytes: usize) -> Self {
        self.max_weight = bytes;
        self
    }

    /// For how long past its time an active token's answer is used while the server does not
    /// answer. Default: 0, never.
    ///
    /// For that long, a token that is revoked during an outage still works. Only where the server
    /// cannot be reached, is too slow, or says 429 or 5xx; never past the token's own expiry, never
    /// after the server called it inactive. [`Principal::is_stale`](crate::Principal::is_stale)
    /// tells.
    pub fn with_stale_if_error(mut self, time: Duration) -> Self {
        self.settings.stale_if_error = time;
        self
    }

    /// How long a lookup may take in all, and each request may wait. Default: 3 s.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// How long making a connection may take, name lookup and TLS included. Default: 1 s. Not for
    /// a [transport of your own](Self::with_transport).
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How many calls may run at a time. Default: 64; at least 1. A request beyond waits for half
    /// a second and gets 503 then.
    pub fn with_max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// After how many failures in a row the server is not asked for a while. Default: 5; at least
    /// 1.
    ///
    /// What a token can cause is no failure here: no answer with a status of 4xx but 429, no plain
    /// 500, and none that cannot be read.
    pub fn with_breaker_threshold(mut self, failures: u32) -> Self {
        self.breaker_threshold = failures;
        self
    }

    /// Takes `http` to 127.0.0.0/8, `[::1]` and `localhost` as well. Default: `https` only.
    pub fn allow_http_to_loopback(mut self) -> Self {
        self.http = PlainHttp::LoopbackOnly;
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

    /// Sends requests by this service, which must check certificates and must not follow redirects.
    /// Default: a pooled HTTP/1.1 client, with TLS by the feature `rustls`.
    ///
    /// A connection that it cannot make should end in an [`io::Error`](std::io::Error) or an error
    /// of `hyper` or `hyper-util`: only these are retried.
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

    /// The clock that ages and expiries are measured by. Default: [`SystemClock`]. Deadlines are
    /// the runtime's.
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    fn transport(&self) -> Result<Transport, IntrospectionConfigError> {
        if let Some(transport) = &self.transport {
            return Ok(transport.clone());
        }
        let roots = self.roots.clone();
        Ok(Transport::standard(self.connect_timeout, roots, self.http)?)
    }

    fn finish(
        self,
        endpoint: Endpoint,
        transport: Transport,
    ) -> Result<IntrospectionStore, IntrospectionConfigError> {
        let issuer = self.rules.issuer.clone();
        self.auth.check(issuer.as_deref())?;
        transport.check(&endpoint)?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|_| IntrospectionConfigError::NoRandomness)?;
        let url = endpoint.uri().to_string();
        let keys = DigestKey::new(&secret, &[url.as_bytes(), &self.auth.identity()]);
        let client = Client {
            endpoint,
            auth: self.auth,
            issuer,
            hint: self.hint,
            claims_parser: self.rules.claims_parser.clone(),
            transport,
            clock: Arc::clone(&self.clock),
        };
        let core = Core {
            client,
            rules: self.rules,
            precheck: self.precheck,
            settings: self.settings,
            clock: self.clock,
            keys,
            cache: ResponseCache::new(
                self.capacity,
                self.negative_capacity,
                self.max_weight as u64,
            ),
            lookups: Lookups::new(self.max_in_flight),
            breaker: Breaker::new(self.breaker_threshold),
        };
        Ok(IntrospectionStore {
            core: Arc::new(core),
        })
    }
}

impl fmt::Debug for IntrospectionBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectionBuilder")
            .field("auth", &self.auth)
            .field("rules", &self.rules)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
