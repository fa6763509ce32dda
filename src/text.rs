//! How names and errors are written for people.

mod invisible;
mod plain_text;
mod redact;
mod serde_text;

#[cfg(any(feature = "client", feature = "introspection", feature = "tracing"))]
use std::error::Error;
#[cfg(any(feature = "client", feature = "introspection", feature = "tracing"))]
use std::fmt::{self, Write};

#[cfg(any(feature = "client", feature = "tracing"))]
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

#[cfg(any(feature = "client", feature = "tracing", all(test, feature = "api")))]
pub(crate) use self::invisible::is_invisible;
#[cfg(feature = "api")]
pub(crate) use self::invisible::{INVISIBLE, JOINERS};
pub(crate) use self::invisible::{has_invisible, is_blank};
#[cfg(any(feature = "api", feature = "client", feature = "tracing"))]
pub(crate) use self::redact::has_token;
pub use self::redact::redact_tokens;
pub(crate) use self::redact::{ID_DIGITS, SECRET_AND_CHECKSUM_DIGITS};
pub(crate) use self::serde_text::deserialize_text;

/// Escapes a name for a JSON pointer (RFC 6901).
pub(crate) fn escape_pointer(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Escapes the characters that are not visible: control and format characters (Unicode categories Cc
/// and Cf) and line and paragraph separators, as `\u{202e}`.
///
/// Unescaped, they break a line, control a terminal or change the direction of the text, so that one
/// name passes for another.
#[cfg(any(feature = "client", feature = "tracing"))]
pub fn escape_invisible(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, char| {
        match char.general_category() {
            GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator => escaped.extend(char.escape_unicode()),
            _ if is_invisible(char) => escaped.extend(char.escape_unicode()),
            _ => escaped.push(char),
        }
        escaped
    })
}

/// Displays an error and its sources, separated by `: `. Leaves out a source whose text the message
/// before it ends with, and the secrets of service tokens.
#[cfg(any(feature = "client", feature = "introspection", feature = "tracing"))]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'a));

#[cfg(any(feature = "client", feature = "introspection", feature = "tracing"))]
impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut next = self.0.source();
        while let Some(error) = next {
            let source = error.to_string();
            if !text.ends_with(&source) {
                write!(text, ": {source}")?;
            }
            next = error.source();
        }
        f.write_str(&redact_tokens(&text))
    }
}

#[cfg(test)]
#[cfg(any(feature = "client", feature = "introspection", feature = "tracing"))]
mod tests {
    use super::*;

    #[cfg(any(feature = "client", feature = "tracing"))]
    #[test]
    fn escapes_all_invisible_characters_and_no_others() {
        for (text, escaped) in [
            (
                "a\u{1b}[31m\nb\u{7f}\u{85}",
                r"a\u{1b}[31m\u{a}b\u{7f}\u{85}",
            ),
            (
                "\u{61c}\u{ad}\u{feff}\u{e0041}",
                r"\u{61c}\u{ad}\u{feff}\u{e0041}",
            ),
            (
                "\u{200e}\u{200f}\u{202e}\u{2066}",
                r"\u{200e}\u{200f}\u{202e}\u{2066}",
            ),
            ("\u{2028}\u{2029}", r"\u{2028}\u{2029}"),
            (
                "n\u{e4}me e\u{301} \u{1f980} \"a\\b\"",
                "n\u{e4}me e\u{301} \u{1f980} \"a\\b\"",
            ),
        ] {
            assert_eq!(escape_invisible(text), escaped);
        }
    }

    #[cfg(any(feature = "client", feature = "tracing"))]
    #[test]
    fn escapes_every_character_that_names_may_not_have() {
        for char in ('\0'..=char::MAX).filter(|char| is_invisible(*char)) {
            let text = char.to_string();
            assert_ne!(escape_invisible(&text), text, "{:?}", char.escape_unicode());
        }
        for visible in ['\u{200c}', '\u{200d}', ' ', 'a', '\u{301}', '\u{fe0f}'] {
            assert!(!is_invisible(visible), "{visible:?}");
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] Option<Box<Outer>>);

    #[test]
    fn displays_each_source_once() {
        let inner = Outer("refused", None);
        let middle = Outer("cannot connect: refused", Some(Box::new(inner)));
        let outer = Outer("lookup failed", Some(Box::new(middle)));
        let text = ErrorChain(&outer).to_string();
        assert_eq!(text, "lookup failed: cannot connect: refused");
    }
}
