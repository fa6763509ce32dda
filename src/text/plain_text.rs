use std::borrow::Cow;

use super::invisible::{is_invisible, is_joiner};

/// A text with percent-encoding decoded and invisible characters removed.
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

/// Returns whether a character is a non-ASCII invisible character or a joiner. Control characters are
/// kept.
fn is_hidden(char: char) -> bool {
    !char.is_ascii() && !char.is_control() && (is_invisible(char) || is_joiner(char))
}

/// Decodes the first character. Returns it, or `None` if it is dropped, and the number of bytes read.
fn decode(text: &str) -> Option<(Option<char>, usize)> {
    let first = text.chars().next()?;
    let decoded = match text.as_bytes() {
        [b'%', high, low, ..] => match hex(&[*high, *low]) {
            // A byte of a character that is not ASCII.
            Some(0x80..) => Some((None, 3)),
            Some(code) => {
                let char = char::from_u32(code);
                let char = char.filter(|char| is_token_character(*char) || *char == '/');
                char.map(|char| (Some(char), 3))
            }
            None => None,
        },
        [b'\\', b'u', b'{', rest @ ..] => {
            let length = rest.iter().take(7).position(|byte| *byte == b'}');
            let digits = length.and_then(|length| hex(&rest[..length]).map(|_| length));
            digits.map(|digits| (None, digits + 4))
        }
        [b'\\', b'u', a, b, c, d, ..] => hex(&[*a, *b, *c, *d]).map(|_| (None, 6)),
        _ if is_hidden(first) => Some((None, first.len_utf8())),
        _ => None,
    };
    Some(decoded.unwrap_or((Some(first), first.len_utf8())))
}

fn hex(digits: &[u8]) -> Option<u32> {
    let is_hex = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
    u32::from_str_radix(digits, 16).ok()
}
