use std::fmt;

use zeroize::Zeroizing;

/// A token as a client sent it: one or more visible ASCII bytes.
///
/// It borrows from the request's headers, so that checking a request copies no secret;
/// [`into_owned`](Self::into_owned) makes a copy that is wiped when dropped. `Debug` shows nothing
/// of it, there is no `Display`, no `Serialize` and no `==`; the text is read only by
/// [`expose_secret`](Self::expose_secret).
///
/// ```
/// use tower_service_token::token::PresentedToken;
///
/// let token = PresentedToken::new("svctok-secret").unwrap();
/// assert_eq!(format!("{token:?}"), "PresentedToken(***)");
/// assert_eq!(token.expose_secret(), "svctok-secret");
/// assert!(PresentedToken::new("two words").is_none());
/// ```
pub struct PresentedToken<'a>(Text<'a>);

enum Text<'a> {
    Borrowed(&'a str),
    Owned(Zeroizing<Box<str>>),
}

impl<'a> PresentedToken<'a> {
    /// `text` as a token, or `None` if it is empty or has a byte that is not visible ASCII.
    pub fn new(text: &'a str) -> Option<Self> {
        Self::from_bytes(text.as_bytes())
    }

    /// As [`new`](Self::new), from bytes such as a header value's.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        if bytes.is_empty() || !is_visible_ascii(bytes) {
            return None;
        }
        std::str::from_utf8(bytes)
            .ok()
            .map(|text| Self(Text::Borrowed(text)))
    }

    /// The secret itself. Never log it, store it or put it into an error.
    pub fn expose_secret(&self) -> &str {
        match &self.0 {
            Text::Borrowed(text) => text,
            Text::Owned(text) => text,
        }
    }

    /// A copy that outlives the request's headers and is zeroed when dropped.
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

/// Without an early exit, so that it compiles to vector instructions.
fn is_visible_ascii(bytes: &[u8]) -> bool {
    !bytes
        .iter()
        .fold(false, |bad, byte| bad | (byte.wrapping_sub(0x21) > 0x5d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_bytes_from_0x21_to_0x7e_make_a_token() {
        for byte in 0..=u8::MAX {
            let token = [b'a', byte, b'z'];
            let visible = (0x21..=0x7e).contains(&byte);
            assert_eq!(
                PresentedToken::from_bytes(&token).is_some(),
                visible,
                "{byte}"
            );
        }
        assert!(PresentedToken::from_bytes(b"").is_none());
    }

    #[test]
    fn an_owned_copy_has_the_same_text_and_the_same_silence() {
        let owned = PresentedToken::new("secret")
            .expect("visible ASCII")
            .into_owned();
        assert_eq!(owned.expose_secret(), "secret");
        assert_eq!(format!("{owned:?}"), "PresentedToken(***)");
        assert_eq!(owned.into_owned().expose_secret(), "secret");
    }
}
