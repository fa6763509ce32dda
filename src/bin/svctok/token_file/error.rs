use std::error::Error;
use std::io;
use std::path::PathBuf;

use tower_service_token::registry::RegistryError;
use tower_service_token::store::StoreError;
use tower_service_token::store::file::{FileStoreError, FileStoreErrorKind};

use crate::failure::{Failure, FailureKind};

/// A token file was not changed, or could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenFileError {
    #[error(transparent)]
    Unreadable(#[from] FileStoreError),
    #[error("cannot write {}", .path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("{} is JSON, which is read and not written", .0.display())]
    Json(PathBuf),
    #[error("{} cannot be changed without changing more of it than the token", .0.display())]
    UnsupportedLayout(PathBuf),
    #[error("{} is changed all the time", .0.display())]
    Busy(PathBuf),
    /// The rule of the format, without the value that breaks it.
    #[error("a token file cannot hold this: {0}")]
    UnsupportedValue(String),
    #[error("a token file cannot hold two secrets of a token, as a grace needs")]
    GracePeriod,
    #[error("the new text would mean something else than it should")]
    UnexpectedContent,
}

impl TokenFileError {
    /// What a store failed by, if it is a token file.
    pub(crate) fn cause_of(error: &StoreError) -> Option<&Self> {
        error.source()?.downcast_ref()
    }

    pub(crate) fn failure(&self) -> Failure {
        let kind = match self {
            Self::Unreadable(_) | Self::Busy(_) => FailureKind::Unreachable,
            _ => FailureKind::Refused,
        };
        let failure = Failure::from_error(kind, self);
        match self.hint() {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unreadable(_) | Self::UnsupportedValue(_) | Self::UnexpectedContent => {
                return None;
            }
            Self::Unwritable { .. } => {
                "the file is replaced by another of its name, so its directory must be writable; \
                 where it is mounted read-only, change what it is made from"
            }
            Self::Json(_) => {
                "keep the tokens in a .toml file, or change this one yourself: `svctok hash` \
                 prints the digest of a token"
            }
            Self::UnsupportedLayout(_) => "give all its lines the same line end",
            Self::Busy(_) => "nothing was changed: try again",
            Self::GracePeriod => {
                "rotate without --grace, and the secret from before stops at once; or create a \
                 second token, and delete this one when nobody uses it"
            }
        })
    }
}

impl From<TokenFileError> for StoreError {
    fn from(error: TokenFileError) -> Self {
        match &error {
            TokenFileError::Unreadable(cause) if cause.kind() != FileStoreErrorKind::Unreadable => {
                Self::corrupt(error)
            }
            _ => Self::unavailable(error),
        }
    }
}

impl From<TokenFileError> for RegistryError {
    fn from(error: TokenFileError) -> Self {
        Self::Store(error.into())
    }
}
