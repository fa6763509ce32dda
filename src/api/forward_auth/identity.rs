use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use crate::principal::Principal;

/// The ASCII characters that a value percent-encodes. It encodes all others as well.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',').add(b'"').add(b'\\');

/// The headers that describe the caller.
pub(super) type Headers = [(HeaderName, HeaderValue); 5];

pub(super) fn headers(caller: &Principal) -> Headers {
    let id = caller.id().to_string();
    [
        ("x-service-token-id", encoded([&*id], "")),
        ("x-service-token-name", encoded([caller.name()], "")),
        ("x-service-token-subject", encoded(caller.subject(), "")),
        ("x-service-token-roles", encoded(caller.roles().iter(), ",")),
        (
            "x-service-token-scopes",
            encoded(caller.scopes().iter(), " "),
        ),
    ]
    .map(|(name, value)| (HeaderName::from_static(name), value))
}

fn encoded<'a>(texts: impl IntoIterator<Item = &'a str>, separator: &str) -> HeaderValue {
    let texts = texts.into_iter();
    let texts: Vec<String> = texts
        .map(|text| percent_encode(text.as_bytes(), ENCODED).to_string())
        .collect();
    HeaderValue::try_from(texts.join(separator)).expect("what is not visible ASCII is encoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_separators_and_control_characters() {
        for (texts, value) in [
            (&["a\r\nx: y"][..], "a%0D%0Ax:%20y"),
            (&["a,b", "c"], "a%2Cb,c"),
            (&["100%", "\u{e9}\"\\\u{7f}\0"], "100%25,%C3%A9%22%5C%7F%00"),
            (&[], ""),
            (&[""], ""),
            (&["projects:*"], "projects:*"),
        ] {
            assert_eq!(encoded(texts.iter().copied(), ","), value);
        }
    }
}
