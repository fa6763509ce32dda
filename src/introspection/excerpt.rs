use percent_encoding::utf8_percent_encode;
use zeroize::Zeroizing;

use super::client_auth::RESERVED;

/// The longest excerpt, in bytes.
const MAX_BYTES: usize = 200;

/// A run of token characters is masked from this length on.
const MIN_TOKEN_LEN: usize = 24;

const MASK: &str = "***";

/// Returns `message` with an [excerpt] of the body, if that is not empty.
pub(super) fn with_excerpt(message: &str, body: &[u8], secrets: &[Zeroizing<String>]) -> String {
    match excerpt(body, secrets) {
        excerpt if excerpt.is_empty() => message.to_owned(),
        excerpt => format!("{message}: {excerpt}"),
    }
}

/// Returns the first 200 bytes of a body for a log, escaped. Masks `secrets`, in each encoding in which
/// a server may echo them, and any text that looks like a token.
fn excerpt(body: &[u8], secrets: &[Zeroizing<String>]) -> String {
    let mut text = Zeroizing::new(String::from_utf8_lossy(body).into_owned());
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        let percent_encoded = utf8_percent_encode(secret, RESERVED).to_string();
        for form in [secret.to_string(), percent_encoded, json(secret)] {
            *text = text.replace(&*Zeroizing::new(form), MASK);
        }
    }
    let mut excerpt = String::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let is_token = is_token_char(first);
        let end = rest.find(|char| is_token_char(char) != is_token);
        let (run, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        let is_secret = is_token && run.len() >= MIN_TOKEN_LEN;
        let run = if is_secret { MASK } else { run };
        for char in run.escape_debug() {
            if excerpt.len() + char.len_utf8() > MAX_BYTES {
                return excerpt;
            }
            excerpt.push(char);
        }
    }
    excerpt
}

fn is_token_char(char: char) -> bool {
    char.is_ascii_alphanumeric() || "-._~+/=%\\".contains(char)
}

/// Escapes what JSON encoders escape, including the optional `\/`.
fn json(text: &str) -> String {
    text.replace('\\', r"\\")
        .replace('"', r#"\""#)
        .replace('/', r"\/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt_of(body: &str, secrets: &[&str]) -> String {
        let secrets: Vec<_> = secrets
            .iter()
            .map(|text| Zeroizing::new((*text).to_owned()))
            .collect();
        excerpt(body.as_bytes(), &secrets)
    }

    #[test]
    fn escapes_a_short_response() {
        let body = "{\"error\":\"unsupported_response\"}\r\n\u{1b}[31m";
        assert_eq!(
            excerpt_of(body, &[]),
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
            let text = excerpt_of(&body, &[]);
            assert!((190..=200).contains(&text.len()), "{}", text.len());
        }
    }

    #[test]
    fn masks_echoed_secrets_in_every_encoding() {
        let secret = "s3/c+r%\"t";
        for echo in [secret, "s3%2Fc%2Br%25%22t", r#"s3\/c+r%\"t"#] {
            let body = format!("{} token {echo} is bad", "x ".repeat(90));
            let text = excerpt_of(&body, &[secret]);
            assert!(text.contains("token *** is"), "{text}");
        }
        let straddling = format!("{}{secret}", "x ".repeat(98));
        assert!(!excerpt_of(&straddling, &[secret]).contains("s3"));
    }

    #[test]
    fn masks_text_that_looks_like_a_token() {
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln";
        assert_eq!(excerpt_of(&format!("got <{token}>"), &[]), "got <***>");
    }
}
