use std::fmt;

use zeroize::Zeroizing;

/// A token as received from a client: one or more visible ASCII bytes.
///
/// It borrows from the request's headers, so that checking a request copies no secret;
/// [`into_owned`](Self::into_owned) makes a copy that is zeroed when dropped. `Debug` does not show
/// the text, and there is no `Display`, no `Serialize` and no `==`; only
/// [`expose_secret`](Self::expose_secret) reads it.
///
/// ```
/// use tower_service_token::token::PresentedToken;
///
/// let token = PresentedToken::new("svctok-secret").expect("visible ASCII");
/// assert_eq!(format!("{token:?}"), "PresentedToken(***)");
/// assert_eq!(token.expose_secret(), "svctok-secret");
/// assert!(PresentedToken::new("two words").is_none());
/// ```
pub struct PresentedToken<'a>(Text<'a>);

/// Bytes that are visible ASCII. UTF-8 is checked only when the text is read.
enum Text<'a> {
    Borrowed(&'a [u8]),
    Owned(Zeroizing<Box<[u8]>>),
}

impl<'a> PresentedToken<'a> {
    /// Creates a token from text. Returns `None` if it is empty or not visible ASCII.
    pub fn new(text: &'a str) -> Option<Self> {
        Self::from_bytes(text.as_bytes())
    }

    /// Creates a token from bytes, such as those of a header value. Returns `None` if they are empty or
    /// not visible ASCII.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        Self::is_visible(bytes).then_some(Self::from_bytes_unchecked(bytes))
    }

    /// Returns whether these bytes are a token: one or more, all visible ASCII.
    #[inline]
    pub(crate) fn is_visible(bytes: &[u8]) -> bool {
        !bytes.is_empty() && is_visible_ascii(bytes)
    }

    /// Creates a token of bytes that [are visible](Self::is_visible).
    pub(crate) fn from_bytes_unchecked(bytes: &'a [u8]) -> Self {
        Self(Text::Borrowed(bytes))
    }

    /// Returns whether the token has the syntax of a bearer token (RFC 6750 §2.1): its characters, then
    /// any number of `=`.
    #[cfg(any(feature = "api", feature = "introspection"))]
    pub(crate) fn is_b64token(&self) -> bool {
        let token = self.expose_secret().trim_end_matches('=').as_bytes();
        let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
        !token.is_empty() && token.iter().all(is_allowed)
    }

    /// Returns the secret itself. Never log it, store it or put it into an error.
    pub fn expose_secret(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Borrowed(text) => text,
            Text::Owned(text) => text,
        }
    }

    /// Returns a copy that borrows nothing and is zeroed when dropped.
    pub fn to_owned(&self) -> PresentedToken<'static> {
        PresentedToken(Text::Owned(Zeroizing::new(self.as_bytes().into())))
    }

    /// Returns a copy that outlives the request's headers and is zeroed when dropped.
    pub fn into_owned(self) -> PresentedToken<'static> {
        PresentedToken(Text::Owned(match self.0 {
            Text::Borrowed(text) => Zeroizing::new(text.into()),
            Text::Owned(text) => text,
        }))
    }
}

impl fmt::Debug for PresentedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedToken(***)")
    }
}

/// Eight bytes at a time and without an early exit.
#[inline]
fn is_visible_ascii(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks();
    let bad = words.iter().fold(0, |bad, word| bad | invisible(*word));
    bad == 0 && rest.iter().all(u8::is_ascii_graphic)
}

/// Returns zero only if all bytes are from 0x21 to 0x7e.
///
/// A byte from 0x80 on has the highest bit set. Of the others, 0x7f has it after adding 1, and those
/// from 0x21 on have it after adding 0x5f. A carry into the next byte occurs only if the highest bit
/// of the byte is set, so the result is not zero in any case.
#[inline]
fn invisible(word: [u8; 8]) -> u64 {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let word = u64::from_ne_bytes(word);
    let too_great = word | word.wrapping_add(EACH);
    let great_enough = word.wrapping_add(0x5f * EACH);
    (too_great | !great_enough) & (0x80 * EACH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_visible_ascii_at_every_position() {
        for byte in 0..=u8::MAX {
            let visible = (0x21..=0x7e).contains(&byte);
            for (length, place) in [
                (1, 0),
                (8, 7),
                (16, 15),
                (39, 38),
                (40, 0),
                (40, 31),
                (48, 20),
            ] {
                let mut token = vec![b'a'; length];
                token[place] = byte;
                let made = PresentedToken::from_bytes(&token).is_some();
                assert_eq!(made, visible, "{byte} at {place} of {length}");
            }
        }
        assert!(PresentedToken::from_bytes(b"").is_none());
    }

    #[cfg(any(feature = "api", feature = "introspection"))]
    #[test]
    fn b64token_matches_rfc_6750() {
        let is_b64token = |text| PresentedToken::new(text).is_some_and(|token| token.is_b64token());
        for valid in ["a", "aZ09-._~+/", "a=", "a==", "eyJ.e30.x"] {
            assert!(is_b64token(valid), "{valid}");
        }
        for invalid in [
            "", "=", "==", "a=b", "a b", "a&b", "a\"", "a,b", "a%20", "é",
        ] {
            assert!(!is_b64token(invalid), "{invalid}");
        }
    }

    #[test]
    fn owned_copies_keep_the_text_and_the_redacted_debug() {
        let owned = PresentedToken::new("secret")
            .expect("visible ASCII")
            .into_owned();
        assert_eq!(owned.expose_secret(), "secret");
        assert_eq!(format!("{owned:?}"), "PresentedToken(***)");
        assert_eq!(owned.into_owned().expose_secret(), "secret");
    }
}
