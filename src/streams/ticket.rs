use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use percent_encoding::percent_decode;
use zeroize::Zeroizing;

use crate::digest::TokenDigest;
use crate::token::{MintError, random_digits};

const PREFIX: &str = "svcticket-";

/// 190.5 bits.
const SECRET_DIGITS: usize = 32;

/// A ticket that opens one stream.
///
/// The text has only letters, digits and `-`, so it needs no encoding in a query or in
/// `Sec-WebSocket-Protocol`. It is zeroed when dropped, and `Debug` does not show it.
///
/// With the feature `axum` it is a response: `{"ticket": "svcticket-…", "expires_in": 30}` with
/// `Cache-Control: no-store`. `expires_in` is in seconds.
pub struct Ticket {
    text: Zeroizing<String>,
    lifetime: Duration,
    expires_at: SystemTime,
}

impl Ticket {
    pub(super) fn mint(now: SystemTime, lifetime: Duration) -> Result<Self, MintError> {
        let secret = random_digits::<SECRET_DIGITS>()?;
        // Allocated with its final capacity, because growing would leave a copy in memory.
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + SECRET_DIGITS));
        text.push_str(PREFIX);
        text.push_str(std::str::from_utf8(&*secret).expect("base62 digits are ASCII"));
        let expires_at = now + lifetime;
        Ok(Self {
            text,
            lifetime,
            expires_at,
        })
    }

    /// Returns whether a part of the text may be a ticket: the prefix in any case, percent-encoded or
    /// not.
    pub(super) fn may_be_in(text: &[u8]) -> bool {
        let decoded: Cow<'_, [u8]> = percent_decode(text).into();
        let mut parts = decoded.windows(PREFIX.len());
        parts.any(|part| part.eq_ignore_ascii_case(PREFIX.as_bytes()))
    }

    /// Returns the digest of a text that has the form of a ticket.
    pub(super) fn parse(text: &str) -> Option<TokenDigest> {
        let secret = text.strip_prefix(PREFIX)?;
        let is_secret = secret.len() == SECRET_DIGITS
            && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_secret.then(|| TokenDigest::of(text))
    }

    pub(super) fn digest(&self) -> TokenDigest {
        TokenDigest::of(&self.text)
    }

    /// Returns the ticket. Send it to the client and do not store it.
    pub fn expose_secret(&self) -> &str {
        &self.text
    }

    /// Returns how long the ticket is valid after it was issued.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Returns when the ticket expires.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "axum")]
impl axum_core::response::IntoResponse for Ticket {
    fn into_response(self) -> axum_core::response::Response {
        use http::HeaderValue;
        use http::header::{CACHE_CONTROL, CONTENT_TYPE};

        // A ticket needs no escaping.
        let (text, seconds) = (&*self.text, self.lifetime.as_secs());
        let body = format!(r#"{{"ticket":"{text}","expires_in":{seconds}}}"#);
        let mut response = axum_core::response::Response::new(body.into());
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
