use std::error::Error;
use std::fmt;
use std::io;

/// The token to send cannot be read.
///
/// `Display` names the variable or the file, and does not repeat its content.
#[derive(Debug)]
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

impl fmt::Display for TokenSourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            TokenSourceErrorKind::NotSet => "is not set",
            TokenSourceErrorKind::Unreadable => "cannot be read",
            TokenSourceErrorKind::InvalidToken => "does not contain a token",
            TokenSourceErrorKind::InvalidOrigin => "is not a scheme and a host",
        };
        write!(f, "{} {what}", self.location)
    }
}

impl Error for TokenSourceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source: &(dyn Error + 'static) = self.source.as_ref()?;
        Some(source)
    }
}
