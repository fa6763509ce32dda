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
/// let token = PresentedToken::new("svctok-secret").expect("visible ASCII");
/// assert_eq!(format!("{token:?}"), "PresentedToken(***)");
/// assert_eq!(token.expose_secret(), "svctok-secret");
/// assert!(PresentedToken::new("two words").is_none());
/// ```
pub struct PresentedToken<'a>(Text<'a>);

/// Bytes that were found to be visible ASCII: checking for UTF-8 as well is left to the few who
/// read the text.
enum Text<'a> {
    Borrowed(&'a [u8]),
    Owned(Zeroizing<Box<[u8]>>),
}

impl<'a> PresentedToken<'a> {
    /// `text` as a token, or `None` if it is empty or has a byte that is not visible ASCII.
    pub fn new(text: &'a str) -> Option<Self> {
        Self::from_bytes(text.as_bytes())
    }

    /// As [`new`](Self::new), from bytes such as a header value's.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        Self::is_visible(bytes).then_some(Self::from_visible(bytes))
    }

    /// Whether these bytes are a token: one or more, all visible ASCII.
    pub(crate) fn is_visible(bytes: &[u8]) -> bool {
        !bytes.is_empty() && is_visible_ascii(bytes)
    }

    /// A token of bytes that [are visible](Self::is_visible).
    pub(crate) fn from_visible(bytes: &'a [u8]) -> Self {
        Self(Text::Borrowed(bytes))
    }

    /// The secret itself. Never log it, store it or put it into an error.
    pub fn expose_secret(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Borrowed(text) => text,
            Text::Owned(text) => text,
        }
    }

    /// A copy that borrows nothing and is zeroed when dropped.
    pub fn to_owned(&self) -> PresentedToken<'static> {
        PresentedToken(Text::Owned(Zeroizing::new(self.as_bytes().into())))
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

/// Without an early exit and in whole chunks, so that each takes a few vector instructions.
fn is_visible_ascii(bytes: &[u8]) -> bool {
    let is_bad = |byte: &u8| byte.wrapping_sub(b'!') > b'~' - b'!';
    let (chunks, rest) = bytes.as_chunks::<16>();
    let bad = chunks.iter().fold(false, |bad, chunk| {
        bad | chunk.iter().fold(false, |bad, byte| bad | is_bad(byte))
    });
    !bad && !rest.iter().any(is_bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_bytes_from_0x21_to_0x7e_make_a_token_wherever_they_stand() {
        for byte in 0..=u8::MAX {
            let visible = (0x21..=0x7e).contains(&byte);
            for (length, place) in [(1, 0), (16, 15), (40, 0), (40, 31), (40, 39), (48, 20)] {
                let mut token = vec![b'a'; length];
                token[place] = byte;
                let made = PresentedToken::from_bytes(&token).is_some();
                assert_eq!(made, visible, "{byte} at {place} of {length}");
            }
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
