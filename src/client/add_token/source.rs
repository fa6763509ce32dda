use std::env;
use std::path::Path;
use std::sync::Arc;

use super::error::{TokenSourceError, TokenSourceErrorKind};
use super::file::{TokenFile, parse_token};
use crate::token::PresentedToken;

/// The source of the token to send. Clones share it.
#[derive(Clone)]
pub(super) enum TokenSource {
    Value(Arc<PresentedToken<'static>>),
    File(Arc<TokenFile>),
}

impl TokenSource {
    /// Creates a source with the token in `text`.
    pub(super) fn value(text: &str, location: &str) -> Result<Self, TokenSourceError> {
        Ok(Self::Value(Arc::new(parse_token(text, location)?)))
    }

    pub(super) fn variable(name: &str) -> Result<Self, TokenSourceError> {
        let missing = || TokenSourceError::new(TokenSourceErrorKind::NotSet, name);
        let value = env::var_os(name).ok_or_else(missing)?;
        Self::value(value.to_str().unwrap_or_default(), name)
    }

    pub(super) fn file(path: &Path) -> Result<Self, TokenSourceError> {
        TokenFile::open(path).map(Self::File)
    }

    /// Returns the current token.
    pub(super) fn token(&self) -> Arc<PresentedToken<'static>> {
        match self {
            Self::Value(token) => Arc::clone(token),
            Self::File(file) => file.token(),
        }
    }
}
