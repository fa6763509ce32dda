use std::fmt;
use std::path::Path;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tower_layer::Layer;
use zeroize::Zeroizing;

use super::error::{TokenSourceError, TokenSourceErrorKind};
use super::origin::Origin;
use super::service::AddServiceToken;
use super::source::TokenSource;

/// Adds a service token to every request that goes out.
///
/// 1. By default as `Authorization: ApiKey <token>`; [as a bearer token](Self::use_bearer) or
///    [in a header of its own](Self::with_header) if so told. A header of that name which is there
///    already is replaced, as a repeated credential is refused.
/// 2. The header is marked sensitive, and its memory wiped when the last clone of it is dropped.
/// 3. The token of a [file](Self::from_file) is followed as the file is rotated.
/// 4. With [`with_origin`](Self::with_origin), the token goes to one origin and nowhere else.
///
/// ```
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_service_token::client::AddServiceTokenLayer;
///
/// # futures::executor::block_on(async {
/// // In place of an HTTP client: answers with the header that it was sent.
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
/// - Put it inside a layer that tries again, so that the second attempt has the newest token. A
///   layer inside of it that follows redirects could carry the token to where it does not belong;
///   put that outside, and name the origin by `with_origin`.
/// - Over plain `http` the token can be read by anyone on the way.
#[derive(Clone)]
#[must_use]
pub struct AddServiceTokenLayer {
    source: TokenSource,
    header: HeaderName,
    scheme: &'static str,
    origin: Option<Origin>,
}

impl AddServiceTokenLayer {
    /// Adds this token.
    ///
    /// # Errors
    ///
    /// It is empty, longer than 4,096 bytes, or not of visible ASCII. An end of line is left out.
    pub fn new(token: &str) -> Result<Self, TokenSourceError> {
        TokenSource::value(token, "the value").map(Self::from_source)
    }

    /// Adds the token in this variable of the environment, which is read once.
    ///
    /// # Errors
    ///
    /// The variable is not set, or holds no token.
    pub fn from_env(variable: &str) -> Result<Self, TokenSourceError> {
        TokenSource::variable(variable).map(Self::from_source)
    }

    /// Adds the token in this file, as it is now and as it will be.
    ///
    /// The file is read each second by a thread of its own, and another token is sent as soon as
    /// two looks found it: within about two seconds. Rotate with a grace longer than that. While
    /// the file is missing or holds no token, the last one is sent on, with a warning by the
    /// feature `tracing`. The thread ends with the last clone of this layer and its services.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds no token.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TokenSourceError> {
        TokenSource::file(path.as_ref()).map(Self::from_source)
    }

    /// Sends `Authorization: Bearer <token>` (RFC 6750 §2.1). Default: `Authorization: ApiKey`.
    pub fn use_bearer(mut self) -> Self {
        (self.header, self.scheme) = (AUTHORIZATION, "Bearer ");
        self
    }

    /// Sends the bare token in this header, such as `X-API-Key`. Default: `Authorization: ApiKey`.
    pub fn with_header(mut self, name: HeaderName) -> Self {
        (self.header, self.scheme) = (name, "");
        self
    }

    /// Adds the token only to requests to this origin, such as `https://api.example` or
    /// `http://127.0.0.1:8080`. Default: to every request.
    ///
    /// A request whose target does not name its server goes without.
    ///
    /// # Errors
    ///
    /// The origin is not a scheme, `http` or `https`, and a host, with a port or without.
    pub fn with_origin(mut self, origin: &str) -> Result<Self, TokenSourceError> {
        let parsed = Origin::parse(origin);
        let error = || TokenSourceError::new(TokenSourceErrorKind::InvalidOrigin, "the origin");
        self.origin = Some(parsed.ok_or_else(error)?);
        Ok(self)
    }

    fn from_source(source: TokenSource) -> Self {
        Self {
            source,
            header: AUTHORIZATION,
            scheme: "ApiKey ",
            origin: None,
        }
    }

    pub(in crate::client) fn add(&self, target: &Uri, headers: &mut HeaderMap) {
        let is_allowed = |origin: &Origin| Origin::of(target).as_ref() == Some(origin);
        if self.origin.as_ref().is_none_or(is_allowed) {
            headers.insert(self.header.clone(), self.value());
        }
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

impl<S> Layer<S> for AddServiceTokenLayer {
    type Service = AddServiceToken<S>;

    fn layer(&self, inner: S) -> AddServiceToken<S> {
        AddServiceToken {
            inner,
            layer: self.clone(),
        }
    }
}

impl fmt::Debug for AddServiceTokenLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddServiceTokenLayer")
            .field("header", &self.header)
            .field("scheme", &self.scheme.trim_end())
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}
