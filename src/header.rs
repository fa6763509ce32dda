//! From a request's headers to the token it presents, or why there is none.
//!
//! 1. Sources, unless [configured](CredentialSources) otherwise: `Authorization: ApiKey <token>`
//!    and `X-API-Key: <token>`. `Authorization: Bearer <token>` (RFC 6750 §2.1) on request. Never
//!    the query, a cookie or the body.
//! 2. Scheme names match in any case (RFC 9110 §11.1). One or more spaces part scheme and token,
//!    white space around the value is trimmed, anything after the token is an error.
//! 3. A token is 1 to 512 visible ASCII bytes. A value that cannot be read as such is
//!    [malformed](CredentialError::Malformed), never absent.
//! 4. A repeated header, or two sources with different tokens, is an error; the first never wins.
//!    Two sources with the same token are one.
//! 5. `Authorization` with another scheme counts as absent: it belongs to somebody else.
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

use http::header::{self, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::token::PresentedToken;

/// The `x-api-key` header.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

// A `static`, so that it can be lent out beside the configured names.
static AUTHORIZATION: HeaderName = header::AUTHORIZATION;

const MAX_TOKEN_LENGTH: usize = 512;

/// Where a service looks for tokens. The default: `Authorization: ApiKey` and `X-API-Key`.
#[derive(Clone, Debug)]
pub struct CredentialSources {
    api_key: bool,
    bearer: bool,
    headers: Vec<HeaderName>,
    max_token_length: usize,
}

impl Default for CredentialSources {
    fn default() -> Self {
        Self {
            api_key: true,
            bearer: false,
            headers: vec![X_API_KEY],
            max_token_length: MAX_TOKEN_LENGTH,
        }
    }
}

impl CredentialSources {
    /// No source at all, to build up from.
    pub fn none() -> Self {
        Self {
            api_key: false,
            headers: Vec::new(),
            ..Self::default()
        }
    }

    /// Whether `Authorization: ApiKey <token>` is read. Default: yes.
    pub fn with_api_key(mut self, read: bool) -> Self {
        self.api_key = read;
        self
    }

    /// Whether `Authorization: Bearer <token>` is read. Default: no.
    pub fn with_bearer(mut self, read: bool) -> Self {
        self.bearer = read;
        self
    }

    /// Reads one more header whose whole value is the token. Default: `x-api-key` alone.
    ///
    /// # Errors
    ///
    /// `Authorization`, `Proxy-Authorization` and `Cookie` have a syntax of their own and cannot
    /// hold a bare token.
    pub fn with_header(mut self, name: HeaderName) -> Result<Self, HeaderNameError> {
        if [header::AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(&name) {
            return Err(HeaderNameError(name));
        }
        if !self.headers.contains(&name) {
            self.headers.push(name);
        }
        Ok(self)
    }

    /// The longest token to accept, in bytes. Default: 512.
    pub fn with_max_token_length(mut self, bytes: usize) -> Self {
        self.max_token_length = bytes;
        self
    }

    /// The token these headers present, or `None` if they present none.
    ///
    /// # Errors
    ///
    /// Headers that present something and are not as the [module](self) says. Where several things
    /// are wrong, the greatest [`CredentialError`], whatever the order of the headers.
    pub fn read<'h>(
        &self,
        headers: &'h HeaderMap,
    ) -> Result<Option<PresentedToken<'h>>, CredentialError> {
        match self.locate(headers) {
            Located::None => Ok(None),
            Located::Single { source, place } => {
                self.read_single(source, headers.iter().nth(place))
            }
            Located::Multiple => self.read_values(
                headers
                    .iter()
                    .filter_map(|(name, value)| Some((self.source(name)?, value))),
            ),
        }
    }

    /// As [`read`](Self::read), and marks the values of all credential headers sensitive, so that
    /// `Debug` and HPACK do not spread them.
    #[inline]
    pub(crate) fn read_and_mark_sensitive<'h>(
        &self,
        headers: &'h mut HeaderMap,
    ) -> Result<Option<PresentedToken<'h>>, CredentialError> {
        match self.locate(headers) {
            Located::None => Ok(None),
            Located::Single { source, place } => {
                let header = headers.iter_mut().nth(place).map(|(name, value)| {
                    value.set_sensitive(true);
                    (name, &*value)
                });
                self.read_single(source, header)
            }
            Located::Multiple => {
                self.read_values(headers.iter_mut().filter_map(|(name, value)| {
                    let source = self.source(name)?;
                    value.set_sensitive(true);
                    Some((source, &*value))
                }))
            }
        }
    }

    /// A token that stands alone, as in a form.
    #[cfg(feature = "api")]
    pub(crate) fn parse_token<'t>(
        &self,
        text: &'t str,
    ) -> Result<PresentedToken<'t>, CredentialError> {
        let token = self.read_token(text.as_bytes())?;
        let token = token.ok_or(CredentialError::Malformed)?;
        Ok(PresentedToken::from_bytes_unchecked(token))
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

    /// The names of the headers that are read.
    pub(crate) fn names(&self) -> impl Iterator<Item = &HeaderName> {
        let authorization = self.reads_authorization().then_some(&AUTHORIZATION);
        authorization.into_iter().chain(&self.headers)
    }

    fn reads_authorization(&self) -> bool {
        self.api_key || self.bearer
    }

    /// The number of the source that this header is, if it is one.
    #[inline]
    fn source(&self, name: &HeaderName) -> Option<usize> {
        if *name == header::AUTHORIZATION {
            return self.reads_authorization().then_some(0);
        }
        let place = self.headers.iter().position(|header| header == name);
        place.map(|place| place + 1)
    }

    /// A look at all names costs less than a hashed look for each source.
    #[inline]
    fn locate(&self, headers: &HeaderMap) -> Located {
        let mut presented = headers
            .keys()
            .enumerate()
            .filter_map(|(place, name)| Some((place, self.source(name)?)));
        let Some((place, source)) = presented.next() else {
            return Located::None;
        };
        // Only while no header at all is repeated does the place of a name tell that of its value.
        if presented.next().is_none() && headers.len() == headers.keys_len() {
            Located::Single { source, place }
        } else {
            Located::Multiple
        }
    }

    /// The one header that presents something. That names and values come in the same order is
    /// checked here: `http` does not promise it.
    #[inline]
    fn read_single<'h>(
        &self,
        source: usize,
        header: Option<(&HeaderName, &'h HeaderValue)>,
    ) -> Result<Option<PresentedToken<'h>>, CredentialError> {
        let value = header
            .filter(|(name, _)| self.source(name) == Some(source))
            .map(|(_, value)| value)
            .ok_or(CredentialError::Malformed)?;
        let token = self.read_value(source, value)?;
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
            // From the 64th source on they share a bit: two of them count as a repetition.
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
                // Nothing secret is compared: the client sent both.
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
    fn read_value<'h>(&self, source: usize, value: &'h HeaderValue) -> RawToken<'h> {
        if source == 0 {
            self.read_authorization(value)
        } else {
            self.read_token(trim(value.as_bytes()))
        }
    }

    #[inline]
    fn read_authorization<'h>(&self, value: &'h HeaderValue) -> RawToken<'h> {
        let value = trim(value.as_bytes());
        let schemes = [(self.api_key, b"apikey"), (self.bearer, b"bearer")];
        for (_, scheme) in schemes.iter().filter(|(read, _)| *read) {
            if let Some(mut token) = after_scheme(value, scheme) {
                while let [b' ', rest @ ..] = token {
                    token = rest;
                }
                return self.read_token(token);
            }
        }
        // A scheme is an RFC 9110 token; other bytes may hide one of ours.
        let scheme = value.split(|&byte| byte == b' ').next().unwrap_or_default();
        if scheme.is_empty() || !scheme.iter().copied().all(is_token_char) {
            return Err(CredentialError::Malformed);
        }
        Ok(None)
    }

    #[inline]
    fn read_token<'h>(&self, token: &'h [u8]) -> RawToken<'h> {
        if token.len() > self.max_token_length {
            return Err(CredentialError::TooLong);
        }
        if !PresentedToken::is_visible(token) {
            return Err(CredentialError::Malformed);
        }
        Ok(Some(token))
    }
}

/// The bytes of a token, or `None` if the header has another scheme.
type RawToken<'h> = Result<Option<&'h [u8]>, CredentialError>;

/// How much of what sources are for a request has.
enum Located {
    None,
    /// The number of the source, and the place of its header among all headers.
    Single {
        source: usize,
        place: usize,
    },
    Multiple,
}

/// What follows the scheme, if `value` is of that scheme, given in small letters.
#[inline]
fn after_scheme<'h, const N: usize>(value: &'h [u8], scheme: &[u8; N]) -> Option<&'h [u8]> {
    let (first, rest) = value.split_first_chunk::<N>()?;
    let ends = matches!(rest.first(), None | Some(b' '));
    // Only a letter becomes a small letter by this bit.
    let difference = |sum, (byte, small): (&u8, &u8)| sum | ((byte | 0x20) ^ small);
    (ends && first.iter().zip(scheme).fold(0, difference) == 0).then_some(rest)
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

/// RFC 9110 §5.6.2 `tchar`.
fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Why headers that present a credential could not be read. A client's error: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// Two sources present different tokens.
    #[error("the request presents two different tokens")]
    Conflicting,
    /// The token is longer than the service accepts.
    #[error("the token is too long")]
    TooLong,
    /// A credential header holds no token, something besides it, or bytes no token has.
    #[error("the credential header cannot be read")]
    Malformed,
    /// A credential header occurs more than once.
    #[error("a credential header is repeated")]
    Repeated,
}

/// A header cannot hold a bare token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header '{0}' cannot hold a bare token")]
pub struct HeaderNameError(HeaderName);

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// What `read` answers is tested against a model of the contract, in `tests/middleware/intake.rs`.
        #[test]
        fn marking_does_not_change_what_is_read_and_marks_only_credential_headers(
            lines in vec((
                select(vec!["authorization", "x-api-key", "accept", "x-other"]),
                select(vec!["ApiKey a-token", "a-token", "another", "Basic Zm9v", "", "two words"]),
            ), 0..5),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(name, HeaderValue::from_static(value));
            }
            let text = |token: Option<PresentedToken<'_>>| {
                token.map(|token| token.expose_secret().to_owned())
            };
            let sources = CredentialSources::default();
            let read = sources.read(&headers).map(text);
            prop_assert_eq!(sources.read_and_mark_sensitive(&mut headers).map(text), read);
            for (name, value) in &headers {
                let is_ours = *name == AUTHORIZATION || *name == X_API_KEY;
                prop_assert_eq!(value.is_sensitive(), is_ours, "{}", name);
            }
        }
    }
}
