use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use crate::principal::Principal;

/// The ASCII characters that a value percent-encodes. It encodes all others as well.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',').add(b'"').add(b'\\');

/// The maximum length of a list, in bytes. Proxies read the headers of a response into a buffer of
/// 4 kB to 16 kB, and reject a longer response.
const MAX_LIST_BYTES: usize = 2048;

/// Returns the headers that describe the caller.
pub(super) fn identity_headers(caller: &Principal) -> [(HeaderName, HeaderValue); 6] {
    let id = encoded(&caller.display_id().to_string());
    let roles = List::new(caller.roles().iter(), ",");
    let scopes = List::new(caller.scopes().iter(), " ");
    let truncated = match (roles.is_truncated, scopes.is_truncated) {
        (false, false) => "",
        (true, false) => "roles",
        (false, true) => "scopes",
        (true, true) => "roles, scopes",
    };
    [
        ("x-service-token-id", value(id)),
        ("x-service-token-name", value(encoded(caller.name()))),
        (
            "x-service-token-subject",
            value(encoded(caller.subject().unwrap_or_default())),
        ),
        ("x-service-token-roles", value(roles.text)),
        ("x-service-token-scopes", value(scopes.text)),
        (
            "x-service-token-truncated",
            HeaderValue::from_static(truncated),
        ),
    ]
    .map(|(name, value)| (HeaderName::from_static(name), value))
}

/// Percent-encoded entries and their separators.
struct List {
    text: String,
    /// Whether the list ends before its last entry.
    is_truncated: bool,
}

impl List {
    fn new<'a>(entries: impl Iterator<Item = &'a str>, separator: &str) -> Self {
        let mut text = String::new();
        for (place, entry) in entries.enumerate() {
            let end = text.len();
            if place > 0 {
                text.push_str(separator);
            }
            text.extend(percent_encode(entry.as_bytes(), ENCODED));
            if text.len() > MAX_LIST_BYTES {
                text.truncate(end);
                return Self {
                    text,
                    is_truncated: true,
                };
            }
        }
        Self {
            text,
            is_truncated: false,
        }
    }
}

fn encoded(text: &str) -> String {
    percent_encode(text.as_bytes(), ENCODED).collect()
}

fn value(encoded: String) -> HeaderValue {
    HeaderValue::try_from(encoded).expect("all other characters are encoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_separators_and_control_characters() {
        for (texts, expected) in [
            (&["a\r\nx: y"][..], "a%0D%0Ax:%20y"),
            (&["a,b", "c"], "a%2Cb,c"),
            (&["100%", "\u{e9}\"\\\u{7f}\0"], "100%25,%C3%A9%22%5C%7F%00"),
            (&[], ""),
            (&[""], ""),
            (&["projects:*"], "projects:*"),
        ] {
            let list = List::new(texts.iter().copied(), ",");
            assert_eq!(value(list.text), expected);
            assert!(!list.is_truncated);
            if let [text] = texts {
                assert_eq!(encoded(text), expected);
            }
        }
    }

    #[test]
    fn cuts_lists_at_the_end_of_an_entry() {
        let half = "x".repeat(MAX_LIST_BYTES / 2);
        let rest = &half[1..];
        // Three bytes each.
        let spaces = " ".repeat(MAX_LIST_BYTES / 3);
        for (entries, length, is_truncated) in [
            (&[&*half, rest][..], MAX_LIST_BYTES, false),
            (&[&*half, &half], MAX_LIST_BYTES / 2, true),
            (&[&*half, rest, ""], MAX_LIST_BYTES, true),
            (&[&*half, &half, "a"], MAX_LIST_BYTES / 2, true),
            (&[&*spaces], spaces.len() * 3, false),
            (&["a", &spaces, "b"], MAX_LIST_BYTES, true),
            (&["ab", &spaces], 2, true),
            (&[&format!("{half}{half}a")], 0, true),
        ] {
            let list = List::new(entries.iter().copied(), ",");
            assert_eq!((list.text.len(), list.is_truncated), (length, is_truncated));
        }
    }
}
