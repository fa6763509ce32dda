use std::borrow::Cow;

use super::invisible::{is_invisible, is_joiner};

/// A text without invisible characters, and with the ASCII characters that are percent-encoded, once
/// or repeatedly, or escaped as in JSON.
pub(super) struct PlainText<'a> {
    pub(super) text: Cow<'a, str>,
    /// The offset in the original of each byte and of the end. Empty if the text is unchanged.
    offsets: Vec<usize>,
}

impl<'a> PlainText<'a> {
    pub(super) fn new(original: &'a str) -> Self {
        let is_changed = |char| matches!(char, '%' | '\\') || is_hidden(char);
        if !original.contains(is_changed) {
            return Self {
                text: Cow::Borrowed(original),
                offsets: Vec::new(),
            };
        }
        let (mut text, mut offsets) = (String::new(), Vec::new());
        let mut at = 0;
        while let Some((char, length)) = decode(&original[at..]) {
            if let Some(char) = char {
                offsets.extend(std::iter::repeat_n(at, char.len_utf8()));
                text.push(char);
            }
            at += length;
        }
        offsets.push(original.len());
        Self {
            text: Cow::Owned(text),
            offsets,
        }
    }

    /// Returns where a part of the text begins or ends in the original.
    pub(super) fn offset(&self, at: usize) -> usize {
        self.offsets.get(at).copied().unwrap_or(at)
    }
}

/// Returns whether a token may contain the character.
pub(super) fn is_token_character(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '_' | '-')
}

/// Returns whether a character is not shown, or only with its neighbors. Those that control a terminal
/// or end a line are shown.
fn is_hidden(char: char) -> bool {
    !char.is_ascii() && !char.is_control() && (is_invisible(char) || is_joiner(char))
}

/// Reads a character of a text, or `None` for one that is dropped, and its length.
fn decode(text: &str) -> Option<(Option<char>, usize)> {
    let first = text.chars().next()?;
    let decoded = match text.as_bytes() {
        [b'%', rest @ ..] => percent_decoded(rest),
        [b'\\', b'/', ..] => Some((Some('/'), 2)),
        [b'\\', b'u', b'{', rest @ ..] => {
            let length = rest.iter().take(7).position(|byte| *byte == b'}');
            let code = length.and_then(|length| Some((hex(&rest[..length])?, length)));
            code.map(|(code, length)| (token_character(code), length + 4))
        }
        [b'\\', b'u', a, b, c, d, ..] => {
            hex(&[*a, *b, *c, *d]).map(|code| (token_character(code), 6))
        }
        _ if is_hidden(first) => Some((None, first.len_utf8())),
        _ => None,
    };
    Some(decoded.unwrap_or((Some(first), first.len_utf8())))
}

/// Decodes what follows a `%`. Returns the character, `None` for a byte of one that is not ASCII, and
/// the length with the `%`. An encoded `%` may begin another code, as in `%252D`.
fn percent_decoded(rest: &[u8]) -> Option<(Option<char>, usize)> {
    let mut at = 0;
    while let [b'2', b'5', high, low, ..] = rest[at..]
        && hex(&[high, low]).is_some()
    {
        at += 2;
    }
    let code = hex(rest.get(at..at + 2)?)?;
    let char = char::from_u32(code).filter(char::is_ascii);
    Some((char, at + 3))
}

/// Returns the character that is escaped, if it may be in a token or between its parts.
fn token_character(code: u32) -> Option<char> {
    let char = char::from_u32(code)?;
    (is_token_character(char) || char == '/').then_some(char)
}

fn hex(digits: &[u8]) -> Option<u32> {
    let is_hex = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
    u32::from_str_radix(digits, 16).ok()
}
