use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::id::TokenId;
use crate::text::redact_tokens;

/// The id of a token as responses, logs and audit events show it: the [`TokenId`], or the id that the
/// token has in a table of your own, such as a UUID.
///
/// A store sets it by [`TokenRecord::with_display_id`](crate::store::TokenRecord::with_display_id).
/// Without one, the `TokenId` is shown. The crate shows it, and looks nothing up by it. The text of
/// another token's `TokenId` is never shown, because it names that token. A clone allocates nothing.
///
/// ```
/// use tower_service_token::token::DisplayId;
///
/// let id = DisplayId::new("0193b3a4-9c1e-7b52-8f0d-2f8f6a1c9e77")?;
/// assert_eq!(id.to_string(), "0193b3a4-9c1e-7b52-8f0d-2f8f6a1c9e77");
/// assert!(DisplayId::new("two words").is_err());
/// # Ok::<_, tower_service_token::token::DisplayIdError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DisplayId(Text);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Text {
    Derived(TokenId),
    Own(Arc<str>),
}

impl DisplayId {
    /// The maximum length, in bytes.
    pub const MAX_LENGTH: usize = 128;

    /// Creates an id from a text of 1 to 128 visible ASCII characters without `"` and `\`.
    ///
    /// So the text is one word of a log line, and needs no escape in JSON and in a header value. The
    /// text of a [`TokenId`] gives the same id as the `TokenId`.
    ///
    /// # Errors
    ///
    /// Returns an error for any other text, and for one that looks like a service token. The error does
    /// not contain the text.
    pub fn new(text: &str) -> Result<Self, DisplayIdError> {
        let is_allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"\\".contains(&byte);
        if !(1..=Self::MAX_LENGTH).contains(&text.len()) || !text.bytes().all(is_allowed) {
            return Err(DisplayIdError(
                "a displayed id is 1 to 128 visible ASCII characters, without '\"' and '\\'",
            ));
        }
        if redact_tokens(text) != text {
            return Err(DisplayIdError("a displayed id must not be a service token"));
        }
        // One text is one id, so that ids are equal if they are shown alike.
        Ok(match text.parse() {
            Ok(id) => Self(Text::Derived(id)),
            Err(_) => Self(Text::Own(text.into())),
        })
    }

    /// Returns whether the token with this id may be shown by this text.
    pub(crate) fn may_show(&self, id: TokenId) -> bool {
        match self.0 {
            Text::Derived(own) => own == id,
            Text::Own(_) => true,
        }
    }

    /// Appends the text, without the cost of a formatter.
    pub(crate) fn push_to(&self, text: &mut String) {
        match &self.0 {
            Text::Derived(id) => {
                let digits = id.digits();
                text.push_str(str::from_utf8(&digits).expect("base62 digits are ASCII"));
            }
            Text::Own(own) => text.push_str(own),
        }
    }
}

impl FromStr for DisplayId {
    type Err = DisplayIdError;

    /// As [`new`](Self::new).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl From<TokenId> for DisplayId {
    fn from(id: TokenId) -> Self {
        Self(Text::Derived(id))
    }
}

impl fmt::Display for DisplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Text::Derived(id) => fmt::Display::fmt(id, f),
            Text::Own(text) => f.pad(text),
        }
    }
}

impl fmt::Debug for DisplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Text::Derived(id) => fmt::Debug::fmt(id, f),
            Text::Own(text) => write!(f, "DisplayId({text})"),
        }
    }
}

impl Serialize for DisplayId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// A text is not a [`DisplayId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DisplayIdError(&'static str);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_ids_of_common_tables() {
        for text in [
            "7",
            "0193b3a4-9c1e-7b52-8f0d-2f8f6a1c9e77",
            "{0193B3A4-9C1E-7B52-8F0D-2F8F6A1C9E77}",
            "01JEST0BRP4X8S9M5ZQ6WFH3KD",
            "key_01h455vb4pex5vsknk084sn02q",
            "tenant/7:key,100%",
            "<b>&'",
            &"x".repeat(DisplayId::MAX_LENGTH),
        ] {
            let id = DisplayId::new(text).expect(text);
            assert_eq!(id.to_string(), text);
            assert_eq!(format!("{id:?}"), format!("DisplayId({text})"));
            let json = serde_json::to_string(&id).expect("text");
            assert_eq!(json, format!("\"{text}\""));
        }
    }

    #[test]
    fn rejects_texts_that_need_escapes_and_tokens() {
        for text in [
            "",
            "two words",
            " 7",
            "7\n",
            "7\r\nx: y",
            "\u{1b}[31m",
            "\u{7f}",
            "\0",
            "\"7\"",
            "7\\",
            "n\u{e4}me",
            "\u{202e}7",
            &"x".repeat(DisplayId::MAX_LENGTH + 1),
            "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n",
            "acme_7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n",
        ] {
            let error = DisplayId::new(text).expect_err(text);
            assert!(!error.to_string().contains("7Hq2mX9bTe"), "{error}");
        }
    }

    #[test]
    fn the_text_of_an_id_is_parsed_to_the_same_id() {
        for text in ["7Hq2mX9bTe", "0000000000", "0000000007"] {
            let id: TokenId = text.parse().expect("ten digits");
            let parsed: DisplayId = text.parse().expect("visible");
            assert_eq!(parsed, DisplayId::from(id));
            assert_eq!(parsed, DisplayId::new(&id.to_string()).expect("visible"));
            assert_eq!(parsed.to_string(), text);
        }
        for text in ["7", "7Hq2mX9bT", "7Hq2mX9bTe0", "7Hq2mX9b-e", "zzzzzzzzzz"] {
            let parsed: DisplayId = text.parse().expect("visible");
            assert_eq!(parsed, DisplayId::new(text).expect("visible"));
            assert_eq!(parsed.to_string(), text);
        }
        assert_eq!("a b".parse::<DisplayId>(), DisplayId::new("a b"));
        assert!("a b".parse::<DisplayId>().is_err());
    }

    #[test]
    fn shows_a_token_id_as_the_token_id_does() {
        let id: TokenId = "7Hq2mX9bTe".parse().expect("ten digits");
        let displayed = DisplayId::from(id);
        assert_eq!(displayed.to_string(), id.to_string());
        assert_eq!(format!("{displayed:?}"), format!("{id:?}"));
        assert_ne!(displayed, DisplayId::new("7Hq2mX9bTf").expect("visible"));
    }
}
