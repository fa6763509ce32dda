use std::env;
use std::path::Path;
use std::sync::Arc;

use super::error::{TokenSourceError, TokenSourceErrorKind};
use super::file::TokenFile;
use crate::token::PresentedToken;

/// The longest token that is taken, in bytes.
pub(super) const MAX_LENGTH: usize = 4_096;

/// Where the token to send comes from. Clones share it.
#[derive(Clone)]
pub(super) enum TokenSource {
    Value(Arc<PresentedToken<'static>>),
    File(Arc<TokenFile>),
}

impl TokenSource {
    /// What stands at `location`.
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

    /// The token as it is now.
    pub(super) fn token(&self) -> Arc<PresentedToken<'static>> {
        match self {
            Self::Value(token) => Arc::clone(token),
            Self::File(file) => file.token(),
        }
    }
}

/// `text` as a token, without the end of its line.
pub(super) fn parse_token(
    text: &str,
    location: &str,
) -> Result<PresentedToken<'static>, TokenSourceError> {
    let text = text.trim_end_matches(['\r', '\n']);
    let token = PresentedToken::new(text).filter(|_| text.len() <= MAX_LENGTH);
    let token = token.map(PresentedToken::into_owned);
    token.ok_or_else(|| TokenSourceError::new(TokenSourceErrorKind::InvalidToken, location))
}
