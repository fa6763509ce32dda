use std::borrow::Cow;
use std::ops::Range;

use super::plain_text::{PlainText, is_token_character};

/// The default prefix, in lower case.
const PREFIX: &str = "svctok-";

/// The digits of an id, which stand between a prefix and `_`.
pub(crate) const ID_DIGITS: usize = 10;

/// The digits of a secret and its checksum.
pub(crate) const SECRET_AND_CHECKSUM_DIGITS: usize = 30;

/// A run of letters and digits behind the default prefix that is longer than an id or a word.
const MIN_SECRET: usize = 17;

/// The shortest part of a secret that is recognized behind another prefix.
const MIN_FOREIGN_SECRET: usize = 16;

/// The shortest part of a secret that is distinguished from a word.
const MIN_WORD: usize = 4;

/// The maximum number of separators between two parts of a secret.
const MAX_SEPARATORS: usize = 3;

/// Replaces the secrets of texts that look like service tokens by `***`.
///
/// Such a text may be cut or have a wrong checksum. It is one of:
///
/// 1. the default prefix, an id, `_` and anything, or the prefix and 17 letters and digits;
/// 2. behind any other prefix, ten or more letters and digits, `_` and 16 more, not all of them
///    lower-case letters;
/// 3. 30 or more letters and digits, with a lower-case letter, an upper-case letter and a digit, as 99.5%
///    of the secrets have without their prefix and id.
///
/// These do not hide a secret:
///
/// - one `/` in it, also as `//` or `/./`; behind a prefix and an id any number of them;
/// - behind the default prefix, also separators such as `.`, `,`, `:`, `+` and a space, if the part after
///   them has a lower-case letter, an upper-case letter and a digit;
/// - percent-encoding, once or repeatedly, JSON escapes and invisible characters, raw or as an escape
///   such as `\u{200d}`.
///
/// The part before the secret stays, and so does everything else: cut secrets without their prefix
/// and id, those that are in more than two parts, and those in another encoding such as Base64.
pub fn redact_tokens(text: &str) -> Cow<'_, str> {
    let plain = PlainText::new(text);
    let (mut clean, mut copied) = (String::new(), 0);
    for secret in secrets(&plain.text, true) {
        let (start, end) = (plain.offset(secret.start), plain.offset(secret.end));
        clean.push_str(&text[copied..start]);
        clean.push_str("***");
        copied = end;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    clean.push_str(&text[copied..]);
    Cow::Owned(clean)
}

/// Returns whether a text contains a text that looks like a service token with its id. A secret alone
/// looks like a token or an identifier of another system.
#[cfg(any(feature = "api", feature = "client", feature = "tracing", test))]
pub(crate) fn has_token(text: &str) -> bool {
    secrets(&PlainText::new(text).text, false).next().is_some()
}

/// Finds the secrets. `include_bare` includes those without an id.
fn secrets(text: &str, include_bare: bool) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + text[at..].find(is_token_character)?;
            let end = start + word_length(&text[start..]);
            at = end;
            let (word, rest) = (&text[start..end], &text[end..]);
            let bare = if include_bare {
                bare_secret(word)
            } else {
                None
            };
            let found = [own_secret(word), foreign_secret(word), bare];
            let found = found.into_iter().flatten().min();
            if let Some(secret) = found.or_else(|| split_secret(word, rest)) {
                let is_own = found.is_some() && own_secret(word).is_some();
                at += rest_of_secret(&word[secret..], rest, is_own);
                return Some(start + secret..at);
            }
            if include_bare && let Some((secret, length)) = split_bare_secret(word, rest) {
                at += length;
                return Some(start + secret..at);
            }
        }
    })
}

/// Returns the length of the token characters that a text begins with.
fn word_length(text: &str) -> usize {
    let end = text.find(|char| !is_token_character(char));
    end.unwrap_or(text.len())
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
        alphanumerics(body) == ID_DIGITS && matches!(body[ID_DIGITS..], [b'_', _, ..])
    })
}

/// Finds a secret behind an id and `_`.
fn foreign_secret(word: &str) -> Option<usize> {
    let bytes = word.as_bytes();
    let mut separators = (0..bytes.len()).filter(|at| bytes[*at] == b'_');
    let found = separators.find(|&at| {
        let rest = &bytes[at + 1..];
        let secret = &rest[..alphanumerics(rest)];
        secret.len() >= MIN_FOREIGN_SECRET
            && is_no_word(secret)
            && trailing_alphanumerics(&bytes[..at]).len() >= ID_DIGITS
    });
    found.map(|at| at + 1)
}

/// Finds a secret without an id.
fn bare_secret(word: &str) -> Option<usize> {
    let mut start = 0;
    for run in word.split(['_', '-']) {
        if run.len() >= SECRET_AND_CHECKSUM_DIGITS && count_character_classes(run.as_bytes()) == 3 {
            return Some(start);
        }
        start += run.len() + 1;
    }
    None
}

/// Finds a secret behind an id and `_` that a `/` is in or before.
fn split_secret(word: &str, rest: &str) -> Option<usize> {
    let (before, begun) = word.rsplit_once('_')?;
    let id = trailing_alphanumerics(before.as_bytes());
    let rest = &rest.as_bytes()[slashes(rest)?..];
    let run = &rest[..alphanumerics(rest)];
    let is_secret = id.len() >= ID_DIGITS
        && count_character_classes(id) >= 2
        && alphanumerics(begun.as_bytes()) == begun.len()
        && begun.len() + run.len() >= MIN_FOREIGN_SECRET
        && is_no_word(run);
    is_secret.then(|| word.len() - begun.len())
}

/// Finds a secret without an id that a `/` is in, and the length of its part in `rest`.
fn split_bare_secret(word: &str, rest: &str) -> Option<(usize, usize)> {
    let slashes = slashes(rest)?;
    let left = trailing_alphanumerics(word.as_bytes());
    let right = &rest.as_bytes()[slashes..];
    let right = &right[..alphanumerics(right)];
    let longest = if left.len() > right.len() {
        left
    } else {
        right
    };
    let is_part = |part: &[u8]| part.len() < MIN_WORD || is_no_word(part);
    let is_secret = left.len() + right.len() == SECRET_AND_CHECKSUM_DIGITS
        && count_character_classes(longest) == 3
        && is_part(left)
        && is_part(right);
    is_secret.then(|| (word.len() - left.len(), slashes + right.len()))
}

/// Returns the length of what follows a part of a secret and belongs to it: parts behind a `/` until
/// the secret is complete. Behind the default prefix, also parts behind other separators.
fn rest_of_secret(part: &str, rest: &str, is_own: bool) -> usize {
    let begun = part.rsplit('_').next().unwrap_or_default();
    let (mut digits, mut length) = (alphanumerics(begun.as_bytes()), 0);
    while digits < SECRET_AND_CHECKSUM_DIGITS {
        let rest = &rest[length..];
        let (separators, min_kinds) = match slashes(rest) {
            Some(slashes) => (slashes, 1),
            None if is_own => (separators(rest), 3),
            None => break,
        };
        let next = &rest[separators..];
        let next = &next[..word_length(next)];
        let run = alphanumerics(next.as_bytes());
        let is_part =
            is_no_word(next.as_bytes()) && count_character_classes(next.as_bytes()) >= min_kinds;
        if separators == 0 || run == 0 || !is_part {
            break;
        }
        digits += run;
        length += separators + next.len();
    }
    length
}

/// Returns the length of the `/` and `/./` that a text begins with, if there are any.
fn slashes(text: &str) -> Option<usize> {
    let end = text.find(|char| !matches!(char, '/' | '.'));
    let end = end.unwrap_or(text.len());
    text[..end].contains('/').then_some(end)
}

/// Returns the length of the separators that a text begins with.
fn separators(text: &str) -> usize {
    let is_separator = |byte: &u8| b"/.,:;+~=&| ".contains(byte);
    let bytes = text.bytes().take(MAX_SEPARATORS);
    bytes.take_while(is_separator).count()
}

/// Returns the letters and digits that a text ends with.
fn trailing_alphanumerics(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().rposition(|byte| !byte.is_ascii_alphanumeric());
    &bytes[start.map_or(0, |start| start + 1)..]
}

/// Returns whether a text is more than lower-case letters, also with `_` and `-` between them.
fn is_no_word(text: &[u8]) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-');
    !text.iter().all(is_word)
}

/// Returns how many of lower-case letters, upper-case letters and digits a text has.
fn count_character_classes(text: &[u8]) -> usize {
    let kinds: [fn(&u8) -> bool; 3] = [
        u8::is_ascii_lowercase,
        u8::is_ascii_uppercase,
        u8::is_ascii_digit,
    ];
    kinds.into_iter().filter(|is| text.iter().any(is)).count()
}

/// Returns the number of letters and digits that a text begins with.
fn alphanumerics(bytes: &[u8]) -> usize {
    let end = bytes.iter().position(|byte| !byte.is_ascii_alphanumeric());
    end.unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests;
