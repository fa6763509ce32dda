use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};

/// The `x-api-key` header.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A header whose whole value is a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHeader(pub(super) HeaderName);

impl TokenHeader {
    /// The `x-api-key` header.
    pub const X_API_KEY: Self = Self(X_API_KEY);

    /// Creates a header from a name.
    ///
    /// # Errors
    ///
    /// Returns an error for `Authorization`, `Proxy-Authorization` and `Cookie`, whose values have a
    /// syntax of their own.
    pub fn new(name: HeaderName) -> Result<Self, TokenHeaderError> {
        if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(&name) {
            return Err(TokenHeaderError(name));
        }
        Ok(Self(name))
    }
}

/// A header is not a [`TokenHeader`], because its values have a syntax of their own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header '{0}' cannot hold a bare token")]
pub struct TokenHeaderError(HeaderName);
