use std::fmt::Write;

use zeroize::Zeroizing;

/// How much of an answer a log may show.
const MAX_BYTES: usize = 200;

/// From this length on a run of the characters tokens are made of is taken for one.
const MIN_TOKEN_LEN: usize = 24;

const MASK: &str = "***";

/// `what`, and the [excerpt] of an answer that shows it, if there is one.
pub(super) fn with_excerpt(what: &str, body: &[u8], secrets: &[Zeroizing<String>]) -> String {
    match excerpt(body, secrets) {
        shown if shown.is_empty() => what.to_owned(),
        shown => format!("{what}: {shown}"),
    }
}

/// The beginning of an answer for a log: escaped, at most 200 bytes, and without `secrets` and
/// whatever else looks like a token.
///
/// A server may echo what it was sent, in one encoding or another.
fn excerpt(body: &[u8], secrets: &[Zeroizing<String>]) -> String {
    let mut text = Zeroizing::new(String::from_utf8_lossy(body).into_owned());
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        for form in [secret.to_string(), percent(secret), json(secret)] {
            *text = text.replace(&*Zeroizing::new(form), MASK);
        }
    }
    let mut shown = String::new();
    for run in Runs(&text) {
        let is_token = run.len() >= MIN_TOKEN_LEN && run.starts_with(is_token_char);
        let run = if is_token { MASK } else { run };
        for part in run.escape_debug() {
            if shown.len() + part.len_utf8() > MAX_BYTES {
                return shown;
            }
            shown.push(part);
        }
    }
    shown
}

fn is_token_char(char: char) -> bool {
    char.is_ascii_alphanumeric() || "-._~+/=%\\".contains(char)
}

/// A text, parted where characters of tokens begin and end.
struct Runs<'a>(&'a str);

impl<'a> Iterator for Runs<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let kind = is_token_char(self.0.chars().next()?);
        let end = self.0.find(|char| is_token_char(char) != kind);
        let (run, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        Some(run)
    }
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes all");
        }
        encoded
    })
}

fn json(text: &str) -> String {
    text.replace('\\', r"\\")
        .replace('"', r#"\""#)
        .replace('/', r"\/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(body: &str, secrets: &[&str]) -> String {
        let secrets: Vec<_> = secrets
            .iter()
            .map(|it| Zeroizing::new((*it).to_owned()))
            .collect();
        excerpt(body.as_bytes(), &secrets)
    }

    #[test]
    fn escapes_a_short_response() {
        let body = "{\"error\":\"unsupported_response\"}\r\n\u{1b}[31m";
        assert_eq!(
            shown(body, &[]),
            r#"{\"error\":\"unsupported_response\"}\r\n\u{1b}[31m"#
        );
        assert_eq!(excerpt(b"\xff\xfe!", &[]), "\u{fffd}\u{fffd}!");
    }

    #[test]
    fn truncates_to_200_bytes() {
        for body in [
            "no ".repeat(500),
            "\u{1F512} ".repeat(500),
            "\n".repeat(500),
        ] {
            let shown = shown(&body, &[]);
            assert!((190..=200).contains(&shown.len()), "{}", shown.len());
        }
    }

    #[test]
    fn masks_echoed_secrets_in_every_encoding() {
        let secret = "s3/c+r%\"t";
        for echo in [secret, "s3%2Fc%2Br%25%22t", r#"s3\/c+r%\"t"#] {
            let body = format!("{} token {echo} is bad", "x ".repeat(90));
            let shown = shown(&body, &[secret]);
            assert!(shown.contains("token *** is"), "{shown}");
        }
        let straddling = format!("{}{secret}", "x ".repeat(98));
        assert!(!shown(&straddling, &[secret]).contains("s3"));
    }

    #[test]
    fn masks_text_that_looks_like_a_token() {
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln";
        assert_eq!(shown(&format!("got <{token}>"), &[]), "got <***>");
    }
}
