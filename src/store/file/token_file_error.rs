use std::io;
use std::path::{Path, PathBuf};

use super::error::{FileStoreError, FileStoreErrorKind};
use crate::registry::RegistryError;
use crate::store::StoreError;

/// A token file was not changed or could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenFileError {
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] FileStoreError),
    /// The file cannot be replaced.
    #[error("cannot write {}", .path.display())]
    Unwritable {
        /// The path that could not be written.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is JSON.
    #[error("cannot change {}: JSON token files are read-only", .0.display())]
    Json(PathBuf),
    /// The text cannot be edited without changing other tokens.
    #[error("cannot change {} without changing other lines", .0.display())]
    UnsupportedLayout(PathBuf),
    /// Other processes keep changing the file.
    #[error("too many concurrent changes to {}", .0.display())]
    Busy(PathBuf),
    /// The format has no place for a value. Names the rule, not the value.
    #[error("a token file cannot hold this: {0}")]
    UnsupportedValue(String),
    /// The format has no place for the previous secret.
    #[error("a token file cannot hold the previous secret, as a grace period needs")]
    GracePeriod,
    /// The edited text does not hold the expected tokens.
    #[error("the edited file would not contain the expected tokens")]
    UnexpectedContent,
}

impl TokenFileError {
    /// Returns the cause of a store's error, if that store is a token file.
    pub fn cause_of(error: &StoreError) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    pub(super) fn unwritable(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Unwritable { path, source }
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
