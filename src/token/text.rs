//! The token in the text of a file or a variable.

use std::io::{self, Read};

use zeroize::Zeroizing;

use super::presented::PresentedToken;
use crate::text::has_token;

/// The maximum length of a token in a file or a variable, in bytes.
const MAX_LENGTH: usize = 4_096;

/// The maximum length of the whole text, in bytes.
const MAX_TEXT: usize = 2 * MAX_LENGTH;

const BYTE_ORDER_MARK: char = '\u{feff}';

const BRACKETS: [char; 4] = ['<', '(', '[', '{'];

const PUNCTUATION: [char; 6] = ['>', ')', ']', '}', ',', ';'];

const QUOTES: [char; 3] = ['"', '\'', '`'];

/// What a text contains instead of one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenTextError {
    /// Nothing but whitespace.
    #[error("it is empty")]
    Empty,
    /// More than a token can have.
    #[error("it is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// A byte order mark of UTF-16.
    #[error("it is UTF-16 text")]
    Utf16,
    /// Bytes that are not UTF-8.
    #[error("it is not UTF-8 text")]
    NotUtf8,
    /// This many lines with text.
    #[error("it has {0} lines")]
    Lines(usize),
    /// A token between quotes.
    #[error("it has quotes around the token")]
    Quotes,
    /// The assignment of a token to a variable.
    #[error("it is a variable assignment; pass only the value")]
    Assignment,
    /// A token behind the name of a header or of a member.
    #[error("it is a header or a member, of which only the value is a token")]
    Header,
    /// A token in brackets, or with punctuation behind it.
    #[error("it has brackets or punctuation around the token")]
    Punctuation,
    /// A character that no token has.
    #[error("it has {0}")]
    Character(&'static str),
}

/// Reads a text with one token.
///
/// # Errors
///
/// Returns an error if reading fails. The inner result is that of [`token_in`].
pub fn read_token(from: impl Read) -> io::Result<Result<PresentedToken<'static>, TokenTextError>> {
    // The buffer has its final capacity, because growing would leave a copy of the token behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_TEXT + 2));
    from.take(MAX_TEXT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(token_in(&bytes).map(PresentedToken::into_owned))
}

/// Returns the token in a text. A byte order mark, and whitespace around the token, are dropped.
///
/// # Errors
///
/// Returns an error if anything else is in the text.
pub fn token_in(bytes: &[u8]) -> Result<PresentedToken<'_>, TokenTextError> {
    if bytes.len() > MAX_TEXT {
        return Err(TokenTextError::TooLong);
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(TokenTextError::Utf16);
    }
    let text = str::from_utf8(bytes).map_err(|_| TokenTextError::NotUtf8)?;
    let text = text.trim_matches(|char: char| char.is_whitespace() || char == BYTE_ORDER_MARK);
    if text.is_empty() {
        return Err(TokenTextError::Empty);
    }
    let lines = text
        .split(['\r', '\n'])
        .filter(|line| !line.trim().is_empty());
    match lines.count() {
        1 => {}
        lines => return Err(TokenTextError::Lines(lines)),
    }
    if is_assignment(text) {
        return Err(TokenTextError::Assignment);
    }
    if is_quoted(text) {
        return Err(TokenTextError::Quotes);
    }
    if is_header(text) {
        return Err(TokenTextError::Header);
    }
    let is_wrapped = text.starts_with(BRACKETS) || text.ends_with(PUNCTUATION);
    if is_wrapped && has_token(text) {
        return Err(TokenTextError::Punctuation);
    }
    if let Some(found) = text.chars().find_map(other_character) {
        return Err(TokenTextError::Character(found));
    }
    let token = PresentedToken::new(text).filter(|_| text.len() <= MAX_LENGTH);
    token.ok_or(TokenTextError::TooLong)
}

/// Returns whether a text assigns a token to a variable, as a shell or an environment file does. A
/// token minted elsewhere may contain `=`, so the value must show that it is one, or be quoted.
fn is_assignment(text: &str) -> bool {
    let Some((name, value)) = text.split_once('=') else {
        return false;
    };
    let name = name.trim_end();
    let exported = ["export ", "set ", "$env:"]
        .iter()
        .find_map(|start| name.strip_prefix(start));
    let is_exported = exported.is_some();
    let name = exported.unwrap_or(name).trim_start();
    let is_name = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    // A token may end with `=`.
    let has_value = !value.trim_start_matches('=').is_empty();
    is_name && has_value && (is_exported || is_between_quotes(value.trim()) || has_token(value))
}

/// Returns whether a text is a name, `:` and a token of this crate's form.
fn is_header(text: &str) -> bool {
    let Some((name, value)) = text.split_once(':') else {
        return false;
    };
    let mut name = name.trim_end().bytes();
    let is_name = name.all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    is_name && has_token(value)
}

/// Returns whether a text is between quotes, or is a token of this crate's form with a quote.
fn is_quoted(text: &str) -> bool {
    is_between_quotes(text) || text.contains(QUOTES) && has_token(text)
}

fn is_between_quotes(text: &str) -> bool {
    QUOTES.into_iter().any(|quote| {
        let inner = text.strip_prefix(quote);
        inner.is_some_and(|inner| inner.ends_with(quote))
    })
}

/// Names a character that no token has.
fn other_character(char: char) -> Option<&'static str> {
    match char {
        '!'..='~' => None,
        '\t' => Some("a tab inside"),
        BYTE_ORDER_MARK => Some("a byte order mark inside"),
        char if char.is_whitespace() => Some("a space inside"),
        char if char.is_control() => Some("a control character"),
        _ => Some("a character that is not ASCII"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<String, TokenTextError> {
        let token = read_token(bytes).expect("a slice");
        token.map(|token| token.expose_secret().to_owned())
    }

    #[test]
    fn drops_what_editors_and_shells_add() {
        for text in [
            "a",
            "a\n",
            "a\r\n\r\n",
            "\u{feff}a\r\n",
            " \ta\u{a0}\n",
            "\n\na",
        ] {
            assert_eq!(read(text.as_bytes()).as_deref(), Ok("a"), "{text:?}");
        }
        let longest = format!("  {}\n", "x".repeat(MAX_LENGTH));
        assert_eq!(read(longest.as_bytes()).as_deref(), Ok(longest.trim()));
    }

    #[test]
    fn names_what_it_finds_instead() {
        let long = "x".repeat(MAX_LENGTH + 1);
        let wide = " ".repeat(MAX_TEXT + 1);
        for (bytes, found) in [
            (&b""[..], TokenTextError::Empty),
            (b"\xef\xbb\xbf\r\n", TokenTextError::Empty),
            (b"\xff\xfea\0", TokenTextError::Utf16),
            (b"\xfe\xff\0a", TokenTextError::Utf16),
            (b"a\xff", TokenTextError::NotUtf8),
            (b"a\n\nb\rc\n", TokenTextError::Lines(3)),
            (b"a b", TokenTextError::Character("a space inside")),
            (b"a\tb", TokenTextError::Character("a tab inside")),
            (b"a\0", TokenTextError::Character("a control character")),
            (b"\"a\"", TokenTextError::Quotes),
            (b"'a'\n", TokenTextError::Quotes),
            (b"TOKEN='a'", TokenTextError::Assignment),
            (long.as_bytes(), TokenTextError::TooLong),
            (wide.as_bytes(), TokenTextError::TooLong),
        ] {
            assert_eq!(read(bytes), Err(found));
        }
    }

    #[test]
    fn quotes_and_assignments_are_no_part_of_a_token() {
        const TOKEN: &str = "svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";
        for (text, found) in [
            ("\"TOKEN\"", TokenTextError::Quotes),
            ("'TOKEN'", TokenTextError::Quotes),
            ("`TOKEN`", TokenTextError::Quotes),
            ("\"TOKEN", TokenTextError::Quotes),
            ("TOKEN'", TokenTextError::Quotes),
            ("\"TOKEN\",", TokenTextError::Quotes),
            ("{\"token\":\"TOKEN\"}", TokenTextError::Quotes),
            ("token=TOKEN", TokenTextError::Assignment),
            ("x = TOKEN", TokenTextError::Assignment),
            ("X=\"TOKEN\"", TokenTextError::Assignment),
            ("export X=TOKEN", TokenTextError::Assignment),
            ("export X='hush'", TokenTextError::Assignment),
            ("$env:X = \"TOKEN\"", TokenTextError::Assignment),
            ("api_key=\"hush\"", TokenTextError::Assignment),
            ("MY_SECRET=TOKEN,", TokenTextError::Assignment),
            ("TOKEN:TOKEN", TokenTextError::Header),
            ("token: TOKEN", TokenTextError::Header),
            ("X-API-Key: TOKEN", TokenTextError::Header),
            ("X-API-Key:TOKEN", TokenTextError::Header),
            ("Authorization: Bearer TOKEN", TokenTextError::Header),
            ("<TOKEN>", TokenTextError::Punctuation),
            ("(TOKEN", TokenTextError::Punctuation),
            ("[TOKEN]", TokenTextError::Punctuation),
            ("TOKEN,", TokenTextError::Punctuation),
            ("TOKEN;", TokenTextError::Punctuation),
        ] {
            let text = match text.rsplit_once("TOKEN") {
                Some((before, after)) => format!("{before}{TOKEN}{after}"),
                None => text.to_owned(),
            };
            assert_eq!(read(text.as_bytes()), Err(found), "{text}");
            assert!(!found.to_string().contains("7Hq2mX9bTe"));
        }
    }

    #[test]
    fn tokens_minted_elsewhere_may_look_like_assignments() {
        for text in [
            "aGVsbG8=",
            "token==",
            "TOKEN=",
            "a=b",
            "x\"y",
            "\"x",
            "k=1&v=2",
            "=a",
            "\"",
            "monkey=1",
            "aGVsbG8TOKEN=abc",
            "api_key=hush",
            "a:b",
            "TOKEN:hush",
            "<hush>",
            "a,",
            "eyJhbGciOi.eyJzdWIiOiIx.7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfG",
        ] {
            assert_eq!(read(text.as_bytes()).as_deref(), Ok(text), "{text}");
        }
    }
}
