//! Reads the token from the headers of a request.
//!
//! 1. Sources, unless [configured](CredentialSources) otherwise: `Authorization: ApiKey <token>`
//!    and `X-API-Key: <token>`. `Authorization: Bearer <token>` (RFC 6750 §2.1) can be enabled. The
//!    query, cookies and the body are never read.
//! 2. Scheme names match in any case (RFC 9110 §11.1). One or more spaces separate scheme and
//!    token. White space around the value is trimmed. Anything after the token is an error.
//! 3. A token is 1 to 512 visible ASCII bytes. Any other value is
//!    [malformed](CredentialError::Malformed), not absent.
//! 4. A repeated header, or two sources with different tokens, is an error. Two sources with the same
//!    token count as one.
//! 5. `Authorization` with another scheme counts as absent, because it is for another middleware. So
//!    does a bearer token of another format, if a [format](CredentialSources::accept_bearer_of) is
//!    configured.
//!
//! ```
//! use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
//! use tower_service_token::header::CredentialSources;
//!
//! let mut headers = HeaderMap::new();
//! headers.insert(AUTHORIZATION, HeaderValue::from_static("ApiKey svctok-secret"));
//!
//! let token = CredentialSources::default().read(&headers)?.expect("a token");
//! assert_eq!(token.expose_secret(), "svctok-secret");
//! # Ok::<_, tower_service_token::header::CredentialError>(())
//! ```

mod token_header;

use http::header;
use http::{HeaderMap, HeaderName, HeaderValue};

pub use self::token_header::{TokenHeader, TokenHeaderError, X_API_KEY};
use crate::token::{PresentedToken, TokenFormat};

// A `static`, so that it can be borrowed like the configured names.
static AUTHORIZATION: HeaderName = header::AUTHORIZATION;

const MAX_TOKEN_LENGTH: usize = 512;

/// The headers that a service reads tokens from. The default is `Authorization: ApiKey` and
/// `X-API-Key`.
#[derive(Clone, Debug)]
#[must_use]
pub struct CredentialSources {
    api_key: bool,
    bearer: bool,
    /// Bearer tokens of another format count as absent. `None` reads all.
    bearer_format: Option<TokenFormat>,
    headers: Vec<HeaderName>,
    max_token_length: usize,
}

impl Default for CredentialSources {
    fn default() -> Self {
        Self {
            api_key: true,
            bearer: false,
            bearer_format: None,
            headers: vec![X_API_KEY],
            max_token_length: MAX_TOKEN_LENGTH,
        }
    }
}

impl CredentialSources {
    /// Creates an empty set of sources, to add to. It reads no header.
    pub fn none() -> Self {
        Self {
            api_key: false,
            headers: Vec::new(),
            ..Self::default()
        }
    }

    /// Reads `Authorization: ApiKey <token>`, as by default.
    pub fn accept_api_key(mut self) -> Self {
        self.api_key = true;
        self
    }

    /// Does not read `Authorization: ApiKey <token>`. By default it is read.
    pub fn without_api_key(mut self) -> Self {
        self.api_key = false;
        self
    }

    /// Also reads `Authorization: Bearer <token>`, whatever the token. By default it is not read.
    ///
    /// Of several calls of this method and [`accept_bearer_of`](Self::accept_bearer_of), the last one
    /// applies.
    pub fn accept_bearer(mut self) -> Self {
        (self.bearer, self.bearer_format) = (true, None);
        self
    }

    /// Also reads `Authorization: Bearer <token>`, but only tokens of this format. Others count as
    /// absent, so that another middleware can authenticate them, such as JWTs (RFC 7519). By default
    /// no bearer token is read.
    ///
    /// 1. A token is of the format if it [resembles](TokenFormat::resembles) one: if it has a prefix
    ///    anywhere, and is not a JWT. Such a token that is damaged or unknown is invalid, not absent.
    /// 2. A token of another format may have any length. It still must be visible ASCII without spaces;
    ///    any other value is [malformed](CredentialError::Malformed).
    /// 3. Only bearer tokens are distinguished. `Authorization: ApiKey` and `X-API-Key` always present
    ///    a service token.
    /// 4. Of several calls of this method and [`accept_bearer`](Self::accept_bearer), the last one
    ///    applies. For several formats, use [`TokenFormat::with_accepted_format`].
    ///
    /// Not for a store that accepts tokens of another format, such as imported tokens or those of an
    /// authorization server: as bearer tokens they count as absent.
    ///
    /// ```
    /// use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
    /// use tower_service_token::header::CredentialSources;
    /// use tower_service_token::token::TokenFormat;
    ///
    /// let sources = CredentialSources::default().accept_bearer_of(TokenFormat::default());
    /// let mut headers = HeaderMap::new();
    /// headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer eyJhbGciOiJFUzI1NiJ9.e30.c2ln"));
    /// assert!(sources.read(&headers)?.is_none());
    /// headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer svctok-damaged"));
    /// assert!(sources.read(&headers)?.is_some());
    /// # Ok::<_, tower_service_token::header::CredentialError>(())
    /// ```
    pub fn accept_bearer_of(mut self, format: TokenFormat) -> Self {
        (self.bearer, self.bearer_format) = (true, Some(format));
        self
    }

    /// Adds a header whose whole value is the token. The default is `x-api-key` alone.
    pub fn with_header(mut self, header: TokenHeader) -> Self {
        if !self.headers.contains(&header.0) {
            self.headers.push(header.0);
        }
        self
    }

    /// Sets the longest token to accept, in bytes. The default is 512.
    pub fn with_max_token_length(mut self, bytes: usize) -> Self {
        self.max_token_length = bytes;
        self
    }

    /// Returns the token in these headers, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// Returns an error if the headers break a rule of the [module](self). If they break several,
    /// the error is the greatest [`CredentialError`], whatever the order of the headers.
    pub fn read<'h>(
        &self,
        headers: &'h HeaderMap,
    ) -> Result<Option<PresentedToken<'h>>, CredentialError> {
        let presented = headers.iter();
        self.read_presented(presented.filter_map(|(name, value)| Some((self.source(name)?, value))))
    }

    /// Reads the token as [`read`](Self::read) does, and marks the values of all credential headers
    /// sensitive, so that `Debug` and HPACK do not expose them.
    #[expect(
        clippy::inline_always,
        reason = "otherwise the token is copied just after it was stored: 5 to 8 ns"
    )]
    #[inline(always)]
    pub(crate) fn read_and_mark_sensitive<'h>(
        &self,
        headers: &'h mut HeaderMap,
    ) -> Result<Option<PresentedToken<'h>>, CredentialError> {
        self.read_presented(headers.iter_mut().filter_map(|(name, value)| {
            let source = self.source(name)?;
            value.set_sensitive(true);
            Some((source, &*value))
        }))
    }

    /// Parses a token without a scheme, as in a form. White space around it is trimmed: the line end of
    /// a file is often sent with the token.
    #[cfg(feature = "api")]
    pub(crate) fn parse_token<'t>(
        &self,
        text: &'t str,
    ) -> Result<PresentedToken<'t>, CredentialError> {
        let token = self.read_token(text.as_bytes().trim_ascii())?;
        token
            .map(PresentedToken::from_bytes_unchecked)
            .ok_or(CredentialError::Malformed)
    }

    /// Removes the credential; an `Authorization` of another scheme stays.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        for name in &self.headers {
            headers.remove(name);
        }
        let ours = |value| !matches!(self.read_authorization(value), Ok(None));
        if self.reads_authorization() && headers.get(&AUTHORIZATION).is_some_and(ours) {
            headers.remove(&AUTHORIZATION);
        }
    }

    pub(crate) fn reads_api_key(&self) -> bool {
        self.api_key
    }

    pub(crate) fn reads_bearer(&self) -> bool {
        self.bearer
    }

    /// Returns the names of the headers that are read.
    pub(crate) fn names(&self) -> impl Iterator<Item = &HeaderName> {
        let authorization = self.reads_authorization().then_some(&AUTHORIZATION);
        authorization.into_iter().chain(&self.headers)
    }

    fn reads_authorization(&self) -> bool {
        self.api_key || self.bearer
    }

    /// Returns the number of the source of this header, if it is one.
    #[inline]
    fn source(&self, name: &HeaderName) -> Option<usize> {
        if *name == header::AUTHORIZATION {
            return self.reads_authorization().then_some(0);
        }
        let place = self.headers.iter().position(|header| header == name);
        place.map(|place| place + 1)
    }

    /// Reads the token in these values, each with the number of its source. Visits all of them.
    ///
    /// They come from a pass over all headers, which costs less than a hashed lookup for each source.
    #[expect(clippy::inline_always, reason = "as `read_and_mark_sensitive`")]
    #[inline(always)]
    fn read_presented<'h>(
        &self,
        mut presented: impl Iterator<Item = (usize, &'h HeaderValue)>,
    ) -> Result<Option<PresentedToken<'h>>, CredentialError> {
        let Some(first) = presented.next() else {
            return Ok(None);
        };
        if let Some(second) = presented.next() {
            return self.read_values([first, second].into_iter().chain(presented));
        }
        let token = self.read_value(first.0, first.1)?;
        Ok(token.map(PresentedToken::from_bytes_unchecked))
    }

    fn read_values<'h>(
        &self,
        values: impl Iterator<Item = (usize, &'h HeaderValue)>,
    ) -> Result<Option<PresentedToken<'h>>, CredentialError> {
        let mut seen = 0_u64;
        let mut found: Option<&'h [u8]> = None;
        let mut error = None;
        for (source, value) in values {
            // All sources from the 64th on share a bit, so two of them count as a repetition.
            let bit = 1 << source.min(63);
            let read = if seen & bit != 0 {
                Err(CredentialError::Repeated)
            } else {
                self.read_value(source, value)
            };
            seen |= bit;
            match (read, found) {
                (Ok(None), _) => {}
                (Ok(token), None) => found = token,
                // Need not be constant-time: the client sent both values.
                (Ok(token), first) if token == first => {}
                (Ok(_), _) => error = error.max(Some(CredentialError::Conflicting)),
                (Err(worse), _) => error = error.max(Some(worse)),
            }
        }
        match error {
            None => Ok(found.map(PresentedToken::from_bytes_unchecked)),
            Some(error) => Err(error),
        }
    }

    #[inline]
    fn read_value<'h>(
        &self,
        source: usize,
        value: &'h HeaderValue,
    ) -> Result<Option<&'h [u8]>, CredentialError> {
        if source == 0 {
            self.read_authorization(value)
        } else {
            self.read_token(trim(value.as_bytes()))
        }
    }

    #[inline]
    fn read_authorization<'h>(
        &self,
        value: &'h HeaderValue,
    ) -> Result<Option<&'h [u8]>, CredentialError> {
        let value = trim(value.as_bytes());
        if self.api_key
            && let Some(token) = after_scheme(value, b"apikey")
        {
            return self.read_token(token);
        }
        if self.bearer
            && let Some(token) = after_scheme(value, b"bearer")
        {
            let format = self.bearer_format.as_ref();
            if format.is_some_and(|format| is_foreign(token, format)) {
                return Ok(None);
            }
            return self.read_token(token);
        }
        // A scheme is an RFC 9110 token; other bytes may hide one of ours.
        let scheme = value.split(|&byte| byte == b' ').next().unwrap_or_default();
        if scheme.is_empty() || !scheme.iter().copied().all(is_token_char) {
            return Err(CredentialError::Malformed);
        }
        Ok(None)
    }

    #[inline]
    fn read_token<'h>(&self, token: &'h [u8]) -> Result<Option<&'h [u8]>, CredentialError> {
        if token.len() > self.max_token_length {
            return Err(CredentialError::TooLong);
        }
        if !PresentedToken::is_visible(token) {
            return Err(CredentialError::Malformed);
        }
        Ok(Some(token))
    }
}

/// Returns the rest of the value after the scheme, which is given in lower case, and the spaces that
/// follow it.
#[inline]
fn after_scheme<'h, const N: usize>(value: &'h [u8], scheme: &[u8; N]) -> Option<&'h [u8]> {
    let (first, mut rest) = value.split_first_chunk::<N>()?;
    let ends = matches!(rest.first(), None | Some(b' '));
    // This bit turns only a letter into a lower-case letter.
    let difference = |sum, (byte, small): (&u8, &u8)| sum | ((byte | 0x20) ^ small);
    if !ends || first.iter().zip(scheme).fold(0, difference) != 0 {
        return None;
    }
    while let [b' ', token @ ..] = rest {
        rest = token;
    }
    Some(rest)
}

/// Returns whether this is a token of another format. A value that is no token at all is an error.
fn is_foreign(token: &[u8], format: &TokenFormat) -> bool {
    PresentedToken::is_visible(token) && !format.resembles_bytes(token)
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Returns whether this is a `tchar` of RFC 9110 §5.6.2.
pub(crate) fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Why a credential could not be read from headers. The response is 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// Two sources present different tokens.
    #[error("the request presents two different tokens")]
    Conflicting,
    /// The token is longer than the service accepts.
    #[error("the token is too long")]
    TooLong,
    /// A credential header has no token, more than a token, or invalid bytes.
    #[error("the credential header cannot be read")]
    Malformed,
    /// A credential header occurs more than once.
    #[error("a credential header is repeated")]
    Repeated,
}

#[cfg(test)]
mod tests;
