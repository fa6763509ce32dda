use std::path::Path;
use std::sync::{Arc, Once};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use zeroize::Zeroizing;

use super::error::TokenSourceError;
use super::source::TokenSource;
use crate::origin::Origin;

/// Layer that applies the [`AddServiceToken`](super::AddServiceToken) middleware, which adds a service
/// token to outgoing requests.
///
/// 1. The default is `Authorization: ApiKey <token>`. Alternatives are a
///    [bearer token](Self::use_bearer) and a [custom header](Self::with_header). An existing header of
///    that name is replaced, because servers reject repeated credentials.
/// 2. The header is marked sensitive. Dropping its last clone zeroes its memory.
/// 3. The token of a [file](Self::from_file) is reloaded when the file changes.
/// 4. With [`with_origin`](Self::with_origin), the token is sent to one origin only. For a tonic
///    `Channel`, use [`with_endpoint_origin`](Self::with_endpoint_origin) instead.
///
/// ```
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_service_token::client::AddServiceTokenLayer;
///
/// # futures::executor::block_on(async {
/// // Instead of an HTTP client: returns the header that it receives.
/// let client = service_fn(async |request: Request<()>| {
///     Ok::<_, std::convert::Infallible>(Response::new(request.headers()["authorization"].clone()))
/// });
/// let client = ServiceBuilder::new()
///     .layer(AddServiceTokenLayer::new("svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n")?)
///     .service(client);
/// let sent = client.oneshot(Request::new(())).await?.into_body();
/// assert!(sent.to_str()?.starts_with("ApiKey svctok-"));
/// assert!(sent.is_sensitive());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # }).expect("the token is one");
/// ```
///
/// # Caveats
///
/// - Put it inside a retry layer, so that a retry has the newest token. Put it inside a layer that
///   follows redirects as well, and set `with_origin`: otherwise the token follows the redirect to
///   another origin. A client that follows redirects itself sends the header on: switch that off.
/// - Over plain `http`, everyone on the network can read the token. Only an `https` origin prevents it.
#[derive(Clone, Debug)]
#[must_use]
pub struct AddServiceTokenLayer {
    source: Arc<TokenSource>,
    header: HeaderName,
    scheme: &'static str,
    origin: Option<Origin>,
    /// The inner service sends requests with a relative target to the origin.
    allows_relative_targets: bool,
    /// Shared by the clones, so that they log one warning.
    relative_target_warning: Arc<Once>,
}

impl AddServiceTokenLayer {
    /// Adds this token. Whitespace around it and a byte order mark are removed.
    ///
    /// # Errors
    ///
    /// Returns an error if the token is empty, longer than 4,096 bytes, or not visible ASCII.
    pub fn new(token: &str) -> Result<Self, TokenSourceError> {
        TokenSource::value(token, "the value").map(Self::from_source)
    }

    /// Adds the token in this environment variable, which is read once. An empty variable counts as
    /// unset.
    ///
    /// # Errors
    ///
    /// Returns an error if the variable is not set or does not contain a token.
    pub fn from_env(variable: &str) -> Result<Self, TokenSourceError> {
        TokenSource::variable(variable).map(Self::from_source)
    }

    /// Adds the token in this file, and reloads it when the file changes.
    ///
    /// A thread reads the file each second. It uses a new token after two reads with the same
    /// content, within about two seconds, so rotate with a longer grace period. While the file is
    /// missing or does not contain a token, the layer keeps the last one, and logs a warning with
    /// the feature `tracing`. The thread ends with the last clone of this layer and its services.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or does not contain a token.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TokenSourceError> {
        TokenSource::file(path.as_ref()).map(Self::from_source)
    }

    /// Sends `Authorization: Bearer <token>` (RFC 6750 §2.1). The default is
    /// `Authorization: ApiKey`.
    pub fn use_bearer(mut self) -> Self {
        (self.header, self.scheme) = (AUTHORIZATION, "Bearer ");
        self
    }

    /// Sends the bare token in this header, such as `X-API-Key`. The default is
    /// `Authorization: ApiKey`.
    pub fn with_header(mut self, name: HeaderName) -> Self {
        (self.header, self.scheme) = (name, "");
        self
    }

    /// Adds the token only to requests to this origin. By default it is added to every request.
    ///
    /// A request with a relative target gets none, and a warning is logged with the feature `tracing`: use
    /// [`with_endpoint_origin`](Self::with_endpoint_origin) for a service that takes relative targets. A
    /// target with a user name, or with a host or port that clients may read in different ways, gets none
    /// either.
    ///
    /// ```
    /// use tower_service_token::client::AddServiceTokenLayer;
    /// use tower_service_token::origin::Origin;
    ///
    /// let layer = AddServiceTokenLayer::new("svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n")?
    ///     .with_origin(Origin::new("https://api.example")?);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_origin(mut self, origin: Origin) -> Self {
        self.allows_relative_targets &= self.origin.as_ref() == Some(&origin);
        self.origin = Some(origin);
        self
    }

    /// As [`with_origin`](Self::with_origin), for an inner service that sends all its requests to this
    /// origin: requests with a relative target get the token, too. The later of the two calls determines
    /// the origin. If `with_origin` changes it, relative targets get no token.
    ///
    /// Use it for a tonic `Channel`, which sends all its requests to its endpoint. tonic's clients make
    /// relative targets. The layer cannot see where the service sends them, so create the endpoint from
    /// the same origin.
    ///
    /// ```
    /// use tower_service_token::client::AddServiceTokenLayer;
    /// use tower_service_token::origin::Origin;
    ///
    /// let origin = Origin::new("https://jobs.example")?;
    /// // With tonic: `Endpoint::from_shared(endpoint)?`.
    /// let endpoint = origin.to_string();
    /// let layer = AddServiceTokenLayer::new("svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n")?
    ///     .with_endpoint_origin(origin);
    /// assert!(layer.header_for(&"/jobs.v1.Jobs/List".parse()?).is_some());
    /// assert!(layer.header_for(&"https://evil.example/".parse()?).is_none());
    /// # assert_eq!(endpoint, "https://jobs.example");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_endpoint_origin(mut self, origin: Origin) -> Self {
        (self.origin, self.allows_relative_targets) = (Some(origin), true);
        self
    }

    fn from_source(source: Arc<TokenSource>) -> Self {
        Self {
            source,
            header: AUTHORIZATION,
            scheme: "ApiKey ",
            origin: None,
            allows_relative_targets: false,
            relative_target_warning: Arc::new(Once::new()),
        }
    }

    /// Returns the header with the current token for a request to `target`, for an HTTP client that is
    /// not a Tower service. The value is marked sensitive.
    ///
    /// Call it for each request, so that the request has the newest token. Insert the header instead of
    /// appending it: servers reject repeated credentials. Returns `None` if the token must not be sent
    /// to `target`, by [`with_origin`](Self::with_origin) or
    /// [`with_endpoint_origin`](Self::with_endpoint_origin).
    ///
    /// ```
    /// use http::Uri;
    /// use tower_service_token::client::AddServiceTokenLayer;
    /// use tower_service_token::origin::Origin;
    ///
    /// let token = AddServiceTokenLayer::new("svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n")?
    ///     .with_origin(Origin::new("https://api.example")?);
    /// let header = token.header_for(&Uri::from_static("https://api.example/projects"));
    /// let (name, value) = header.expect("the origin of the token");
    /// assert_eq!(name, "authorization");
    /// assert!(value.is_sensitive());
    /// assert!(token.header_for(&Uri::from_static("https://evil.example/")).is_none());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn header_for(&self, target: &Uri) -> Option<(HeaderName, HeaderValue)> {
        self.is_allowed(target)
            .then(|| (self.header.clone(), self.value()))
    }

    pub(in crate::client) fn add(&self, target: &Uri, headers: &mut HeaderMap) {
        if let Some((name, value)) = self.header_for(target) {
            headers.insert(name, value);
        }
    }

    /// Returns whether the token may be sent to this target.
    fn is_allowed(&self, target: &Uri) -> bool {
        let Some(origin) = &self.origin else {
            return true;
        };
        if target.authority().is_some() {
            return Origin::of(target).as_ref() == Ok(origin);
        }
        if !self.allows_relative_targets {
            self.relative_target_warning.call_once(|| {
                #[cfg(feature = "tracing")]
                tracing::warn!(target: "tower_service_token::client", "no token sent with a relative target: set the origin of the server by AddServiceTokenLayer::with_endpoint_origin");
            });
        }
        self.allows_relative_targets
    }

    fn value(&self) -> HeaderValue {
        let token = self.source.token();
        let secret = token.expose_secret();
        let mut text = Zeroizing::new(Vec::with_capacity(self.scheme.len() + secret.len()));
        text.extend_from_slice(self.scheme.as_bytes());
        text.extend_from_slice(secret.as_bytes());
        let value = HeaderValue::from_maybe_shared(Bytes::from_owner(text));
        let mut value = value.expect("a token is visible ASCII");
        value.set_sensitive(true);
        value
    }
}
