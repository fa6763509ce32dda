use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use tower_service_token::token::{PresentedToken, TokenFormat};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// A text that is secret, or may be: zeroed when dropped, and not shown by `Debug`.
///
/// Any text can be read as one: an error would quote it.
#[derive(Clone)]
pub(crate) struct SecretText(Zeroizing<String>);

impl SecretText {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    pub(crate) fn expose_secret(&self) -> &str {
        &self.0
    }

    /// As a token, which it is if it is visible ASCII.
    pub(crate) fn presented(&self) -> Result<PresentedToken<'_>, Failure> {
        PresentedToken::new(&self.0).ok_or_else(|| {
            Failure::refused(
                "this is no token: a token is one line of visible ASCII, without spaces",
            )
            .with_hint("look for spaces, quotes and line breaks around it")
        })
    }

    /// What may be shown of the token.
    pub(crate) fn hint(&self) -> String {
        TokenFormat::default().redact(&self.0)
    }
}

impl FromStr for SecretText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::new)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(***)")
    }
}

/// `text` without what looks like a token, or like a password in a URL: for messages that quote
/// the command line.
pub(crate) fn without_secrets(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest
        .find("://")
        .into_iter()
        .chain(rest.find("svctok-"))
        .min()
    {
        let is_url = rest[at..].starts_with("://");
        let start = at + if is_url { "://".len() } else { "svctok-".len() };
        let is_end = |char: char| {
            char.is_whitespace()
                || char == '\''
                || !(is_url || char.is_ascii_alphanumeric() || char == '_' || char == '-')
        };
        let length = rest[start..].find(is_end).unwrap_or(rest.len() - start);
        let word = &rest[start..start + length];
        clean.push_str(&rest[..start]);
        let shown = match word.rfind('@') {
            Some(at) if is_url => format!("***{}", &word[at..]),
            None if !is_url && length > 16 => "***".to_owned(),
            _ => word.to_owned(),
        };
        clean.push_str(&shown);
        rest = &rest[start + length..];
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_passwords_are_taken_out_of_a_message_and_nothing_else() {
        for (text, shown) in [
            (
                "invalid value 'svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n' for x",
                "invalid value 'svctok-***' for x",
            ),
            (
                "'--store=postgress://u:hu@sh@db/t', and http://db/t",
                "'--store=postgress://***@db/t', and http://db/t",
            ),
            (
                "svctok-service-token svctok- svctok",
                "svctok-service-token svctok- svctok",
            ),
        ] {
            assert_eq!(without_secrets(text), shown);
        }
    }
}
