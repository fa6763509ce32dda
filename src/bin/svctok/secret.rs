use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use tower_service_token::internal::{TokenTextError, redact_tokens, token_in};
use tower_service_token::token::{PresentedToken, TokenFormat};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// A text that is or may be secret. It is zeroed when dropped, and `Debug` redacts it.
///
/// Parsing accepts any text, because a parse error of clap would quote it.
#[derive(Clone)]
pub(crate) struct SecretText {
    text: Zeroizing<String>,
    /// Where the text comes from, for errors.
    source: Option<String>,
}

impl SecretText {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: Zeroizing::new(text.into()),
            source: None,
        }
    }

    /// Sets what errors name as the place of the text, such as a variable.
    pub(crate) fn with_source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn expose_secret(&self) -> &str {
        &self.text
    }

    /// Returns the token in the text, without the whitespace around it.
    pub(crate) fn as_presented_token(&self) -> Result<PresentedToken<'_>, Failure> {
        token_in(self.text.as_bytes()).map_err(|found| match &self.source {
            Some(source) => not_a_token(source, found),
            None => Failure::rejected(format!("invalid token: {found}")),
        })
    }

    /// Returns the token in the text as a text of its own.
    pub(crate) fn trimmed(&self) -> Result<Self, Failure> {
        self.as_presented_token()
            .map(|token| Self::new(token.expose_secret()))
    }

    /// Returns the part of the token that may be shown.
    pub(crate) fn hint(&self) -> String {
        TokenFormat::default().redact(self.text.trim())
    }
}

/// Returns the failure of a text with something else than one token. `name` is where it comes from.
pub(crate) fn not_a_token(name: &str, found: TokenTextError) -> Failure {
    let message = format!("{name} does not contain a token: {found}");
    if found == TokenTextError::Empty {
        return Failure::usage(message)
            .with_hint("pipe the token to stdin, or use --service-token-file FILE");
    }
    Failure::rejected(message)
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

/// Replaces tokens, and user names and passwords in URLs, for messages that quote the command line.
pub(crate) fn redact_secrets(text: &str) -> String {
    let text = redact_tokens(text);
    let mut clean = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some((before, after)) = rest.split_once("://") {
        // A malformed URL may have a password with quotes and spaces.
        let line = after.lines().next().unwrap_or_default();
        let length = line.rfind('@').unwrap_or(0);
        clean.extend([before, "://", if length > 0 { "***" } else { "" }]);
        rest = &after[length..];
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redacts_only_tokens_and_passwords() {
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
                "'postgress://u:h'u sh@db/t' and svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6w",
                "'postgress://***@db/t' and svctok-***",
            ),
            ("https://db/t is not\n'u@db'", "https://db/t is not\n'u@db'"),
            (
                "svctok-service-token svctok- svctok",
                "svctok-service-token svctok- svctok",
            ),
        ] {
            assert_eq!(redact_secrets(text), shown);
        }
    }
}
