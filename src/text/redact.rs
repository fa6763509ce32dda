use std::borrow::Cow;

/// The default prefix, in lower case.
const PREFIX: &str = "svctok-";

/// The digits of an id, which stand between a prefix and `_`.
const ID_DIGITS: usize = 10;

/// A run of letters and digits behind the default prefix that is longer than an id or a word.
const MIN_SECRET: usize = 17;

/// The shortest part of a secret that is recognized behind another prefix.
const MIN_FOREIGN_SECRET: usize = 16;

/// Replaces the secrets of texts that look like service tokens by `***`.
///
/// Such a text may be cut or have a wrong checksum. It is the default prefix, an id, `_` and
/// anything, or the prefix and 17 letters and digits; or, behind any other prefix, ten or more
/// letters and digits, `_` and 16 more, not all of them lower-case letters. The part before the
/// secret stays, and so does everything else.
pub fn redact_tokens(text: &str) -> Cow<'_, str> {
    let (mut clean, mut copied) = (String::new(), 0);
    let mut at = 0;
    while let Some(start) = text[at..].find(is_token_character) {
        let start = at + start;
        let length = text[start..].find(|char| !is_token_character(char));
        at = length.map_or(text.len(), |length| start + length);
        if let Some(secret) = secret_in(&text[start..at]) {
            clean.push_str(&text[copied..start + secret]);
            clean.push_str("***");
            copied = at;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    clean.push_str(&text[copied..]);
    Cow::Owned(clean)
}

/// Returns whether a text contains a text that looks like a service token.
#[cfg(any(feature = "api", feature = "client", feature = "tracing", test))]
pub(crate) fn has_token(text: &str) -> bool {
    matches!(redact_tokens(text), Cow::Owned(_))
}

fn is_token_character(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '%')
}

/// Returns where the secret in a word of token characters begins.
fn secret_in(word: &str) -> Option<usize> {
    let own = own_secret(word);
    let foreign = foreign_secret(word);
    own.into_iter().chain(foreign).min()
}

/// Finds a secret behind the default prefix, after which nothing is shown.
fn own_secret(word: &str) -> Option<usize> {
    let bytes = word.as_bytes();
    let is_prefix = |part: &[u8]| part.eq_ignore_ascii_case(PREFIX.as_bytes());
    let mut bodies = (PREFIX.len()..=bytes.len())
        .filter(|at| is_prefix(&bytes[at - PREFIX.len()..*at]))
        .peekable();
    let first = *bodies.peek()?;
    let mut runs = bytes[first..].split(|byte| !byte.is_ascii_alphanumeric());
    if runs.any(|run| run.len() >= MIN_SECRET) {
        return Some(first);
    }
    bodies.find(|&at| {
        let body = &bytes[at..];
        alphanumerics(body) == ID_DIGITS
            && separator(&body[ID_DIGITS..]).is_some_and(|length| body.len() > ID_DIGITS + length)
    })
}

/// Finds a secret behind an id and `_`.
fn foreign_secret(word: &str) -> Option<usize> {
    let bytes = word.as_bytes();
    let mut separators = (0..bytes.len()).filter_map(|at| Some((at, separator(&bytes[at..])?)));
    let found = separators.find(|&(at, length)| {
        let id = bytes[..at]
            .iter()
            .rev()
            .take_while(|byte| byte.is_ascii_alphanumeric());
        let rest = &bytes[at + length..];
        let secret = &rest[..alphanumerics(rest)];
        secret.len() >= MIN_FOREIGN_SECRET
            && !secret.iter().all(u8::is_ascii_lowercase)
            && id.count() >= ID_DIGITS
    });
    found.map(|(at, length)| at + length)
}

/// Returns the length of the `_` that a text begins with, which may be percent-encoded.
fn separator(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'_', ..] => Some(1),
        [b'%', b'5', b'F' | b'f', ..] => Some(3),
        _ => None,
    }
}

/// Returns the number of letters and digits that a text begins with.
fn alphanumerics(bytes: &[u8]) -> usize {
    let end = bytes.iter().position(|byte| !byte.is_ascii_alphanumeric());
    end.unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redacts_whole_cut_and_damaged_tokens_of_any_prefix() {
        for (text, shown) in [
            (
                "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n",
                "svctok-***",
            ),
            ("/a/svctok-7Hq2mX9bTe_Zk3/rotate", "/a/svctok-***/rotate"),
            ("x-SVCTOK-7HQ2MX9BTE_Z?y", "x-SVCTOK-***?y"),
            ("svctok-7Hq2mX9bTe-Zk3vN8pR1sYdQ6wLfGc5uJtA", "svctok-***"),
            (
                "(acme_7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n)",
                "(acme_7Hq2mX9bTe_***)",
            ),
            (
                "a-b-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wL.json",
                "a-b-7Hq2mX9bTe_***.json",
            ),
            (
                "svctok%2D7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfG",
                "svctok%2D7Hq2mX9bTe_***",
            ),
            (
                "svctok-7Hq2mX9bTe%5FZk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n",
                "svctok-***",
            ),
            (
                "svctok%2D7Hq2mX9bTe%5fZk3vN8pR1sYdQ6wLfG",
                "svctok%2D7Hq2mX9bTe%5f***",
            ),
            (
                "7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n",
                "7Hq2mX9bTe_***",
            ),
            (
                "é svctok-7Hq2mX9bTe_Z, é acme_7Hq2mX9bTe_Zk3vN8pR1sYdQ6wL é",
                "é svctok-***, é acme_7Hq2mX9bTe_*** é",
            ),
        ] {
            assert_eq!(redact_tokens(text), shown, "{text}");
            assert!(has_token(text), "{text}");
            assert_eq!(redact_tokens(shown), shown);
        }
    }

    #[test]
    fn time_grows_with_the_length_of_the_text() {
        for part in ["svctok-", "a123456789_", "svctok-a123456789_"] {
            let text = part.repeat(100_000);
            assert_eq!(has_token(&text), part.len() > 12, "{part}");
        }
    }

    #[test]
    fn keeps_ids_hints_names_and_request_ids() {
        for text in [
            "",
            "7Hq2mX9bTe",
            "svctok-7Hq2mX9bTe_***",
            "svctok-7Hq2mX9bTe",
            "svctok-service-token-create.1",
            "/srv/svctok-production-database.db",
            "0af7651916cd43dd8448eb211c80319c",
            "build_0af7651916cd43dd8448eb211c80319c",
            "9f3c1e52-8a4e-4c55-9b0f-2a9d7c2f7c11",
            "invalid_authorization_specification",
            "constraint internationalization_internationalization",
            "tower_service_token::audit",
        ] {
            assert_eq!(redact_tokens(text), text);
            assert!(!has_token(text), "{text}");
        }
    }
}
