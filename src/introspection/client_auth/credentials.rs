use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::introspection::config_error::IntrospectionConfigError;
use crate::introspection::request::RequestError;

/// A client of the authorization server, and the secret the two share.
pub(super) struct ClientCredentials {
    pub(super) id: String,
    pub(super) secret: Zeroizing<String>,
}

/// All but the unreserved characters of RFC 3986: `%20` for a space is understood by servers that
/// decode a form and by those that decode a URL, `+` by the former alone.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

impl ClientCredentials {
    pub(super) fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            secret: Zeroizing::new(secret.into()),
        }
    }

    pub(super) fn check(&self) -> Result<(), IntrospectionConfigError> {
        if self.id.is_empty() {
            return Err(IntrospectionConfigError::EmptyClientId);
        }
        if self.secret.is_empty() {
            return Err(IntrospectionConfigError::EmptyClientSecret);
        }
        Ok(())
    }

    pub(super) fn encoded(&self) -> Self {
        Self {
            id: utf8_percent_encode(&self.id, RESERVED).collect(),
            secret: encoded(&self.secret),
        }
    }

    pub(super) fn basic(&self) -> Result<HeaderValue, RequestError> {
        let mut joined =
            Zeroizing::new(String::with_capacity(self.id.len() + 1 + self.secret.len()));
        for part in [&self.id, ":", &self.secret] {
            joined.push_str(part);
        }
        let mut text = Zeroizing::new(String::with_capacity(joined.len().div_ceil(3) * 4));
        STANDARD.encode_string(joined.as_bytes(), &mut text);
        secret_header("Basic ", &text)
    }
}

/// Into memory that never grows, so that no copy of a part is left behind.
fn encoded(secret: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(3 * secret.len()));
    for part in utf8_percent_encode(secret, RESERVED) {
        text.push_str(part);
    }
    text
}

/// A header value that is marked sensitive, and wiped when the last clone is dropped.
pub(super) fn secret_header(scheme: &str, secret: &str) -> Result<HeaderValue, RequestError> {
    let mut text = Zeroizing::new(Vec::with_capacity(scheme.len() + secret.len()));
    text.extend_from_slice(scheme.as_bytes());
    text.extend_from_slice(secret.as_bytes());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text))
        .map_err(|_| RequestError::Credentials)?;
    value.set_sensitive(true);
    Ok(value)
}
