use std::io;

/// The token to send cannot be read.
///
/// `Display` names the variable or the file, and does not repeat its content.
#[derive(Debug, thiserror::Error)]
#[error("{location} {}", kind.description())]
pub struct TokenSourceError {
    kind: TokenSourceErrorKind,
    location: String,
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
    /// The content is not a token: it is empty, longer than 4,096 bytes, or not visible ASCII.
    InvalidToken,
    /// The origin is not `https://host[:port]` or `http://host[:port]`.
    InvalidOrigin,
}

impl TokenSourceError {
    pub(super) fn new(kind: TokenSourceErrorKind, location: impl Into<String>) -> Self {
        Self {
            kind,
            location: location.into(),
            source: None,
        }
    }

    pub(super) fn unreadable(location: impl Into<String>, source: io::Error) -> Self {
        Self {
            source: Some(source),
            ..Self::new(TokenSourceErrorKind::Unreadable, location)
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
            Self::InvalidOrigin => "is not a scheme and a host",
        }
    }
}
