use std::fmt;
use std::io;

use crate::token::text::TokenTextError;

/// The token to send cannot be read.
///
/// `Display` names the variable or the file, and does not repeat its content.
#[derive(Debug, thiserror::Error)]
#[error("{location} {}{}", kind.description(), Found(*found))]
pub struct TokenSourceError {
    kind: TokenSourceErrorKind,
    location: String,
    found: Option<TokenTextError>,
    source: Option<io::Error>,
}

/// The causes of a [`TokenSourceError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenSourceErrorKind {
    /// The environment variable is not set.
    NotSet,
    /// The file cannot be read.
    Unreadable,
    /// The content is not one token with nothing but whitespace around it: it is empty, longer than
    /// 4,096 bytes, has several lines, or is not visible ASCII. The message names what was found.
    InvalidToken,
}

impl TokenSourceError {
    pub(super) fn new(kind: TokenSourceErrorKind, location: impl Into<String>) -> Self {
        Self {
            kind,
            location: location.into(),
            found: None,
            source: None,
        }
    }

    pub(super) fn unreadable(location: impl Into<String>, source: io::Error) -> Self {
        Self {
            source: Some(source),
            ..Self::new(TokenSourceErrorKind::Unreadable, location)
        }
    }

    pub(super) fn not_a_token(location: impl Into<String>, found: TokenTextError) -> Self {
        Self {
            found: Some(found),
            ..Self::new(TokenSourceErrorKind::InvalidToken, location)
        }
    }

    /// Returns the cause.
    pub fn kind(&self) -> TokenSourceErrorKind {
        self.kind
    }
}

impl TokenSourceErrorKind {
    fn description(self) -> &'static str {
        match self {
            Self::NotSet => "is not set",
            Self::Unreadable => "cannot be read",
            Self::InvalidToken => "does not contain a token",
        }
    }
}

/// Displays what a text contains instead of a token, after a colon.
struct Found(Option<TokenTextError>);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(found) => write!(f, ": {found}"),
            None => Ok(()),
        }
    }
}
