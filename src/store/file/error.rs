use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const MAX_BYTES: u64 = 256 << 20;

/// A token file cannot be used.
///
/// The message names the file, the place and the field. It never quotes the file, which may contain
/// a secret.
#[derive(Clone, Debug)]
pub struct FileStoreError {
    path: PathBuf,
    cause: Cause,
}

/// Why a token file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileStoreErrorKind {
    /// The file is missing, cannot be read or watched, or is not an ordinary file.
    Unreadable,
    /// Users other than the owner can write to the file.
    Insecure,
    /// The file is not valid TOML or JSON, or its name has neither extension.
    Malformed,
    /// The file has an unknown field or an invalid value.
    Invalid,
    /// The file contains a token. Revoke that token, because it was stored in clear text.
    ContainsToken,
}

#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error("cannot be read")]
    Io(#[source] Arc<io::Error>),
    #[error("cannot start a thread to watch the file")]
    Thread(#[source] Arc<io::Error>),
    #[error("is not an ordinary file")]
    NotAFile,
    #[error("is longer than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("changed while it was read")]
    Changing,
    #[error("is writable by users other than its owner (mode {mode:04o}); run chmod go-w")]
    Insecure { mode: u32 },
    #[error("its name must end in .toml or .json")]
    Extension,
    #[error("is not UTF-8")]
    NotUtf8,
    #[error("is not {format}")]
    Syntax {
        format: &'static str,
        location: Location,
    },
    #[error("{problem}")]
    Content {
        location: Location,
        problem: Cow<'static, str>,
    },
    #[error("this looks like a token; the file must hold digests, never tokens")]
    Token { location: Location },
}

/// The place of a problem, as far as known. Lines, columns and tokens count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) line: Option<usize>,
    pub(super) column: Option<usize>,
    pub(super) token: Option<usize>,
    pub(super) field: Option<&'static str>,
}

impl FileStoreError {
    pub(super) fn new(path: &Path, cause: Cause) -> Self {
        let path = path.to_owned();
        Self { path, cause }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> FileStoreErrorKind {
        match self.cause {
            Cause::Io(_)
            | Cause::Thread(_)
            | Cause::NotAFile
            | Cause::TooLarge
            | Cause::Changing => FileStoreErrorKind::Unreadable,
            Cause::Insecure { .. } => FileStoreErrorKind::Insecure,
            Cause::Extension | Cause::NotUtf8 | Cause::Syntax { .. } => {
                FileStoreErrorKind::Malformed
            }
            Cause::Content { .. } => FileStoreErrorKind::Invalid,
            Cause::Token { .. } => FileStoreErrorKind::ContainsToken,
        }
    }

    /// Returns the path of the file, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the line of the problem, counted from 1, if it is known.
    pub fn line(&self) -> Option<usize> {
        self.cause.location().line
    }

    /// Returns whether both errors have the same text.
    pub(super) fn has_same_message(&self, other: &Self) -> bool {
        let texts = |error: &Self| (error.to_string(), error.source().map(ToString::to_string));
        texts(self) == texts(other)
    }
}

impl fmt::Display for FileStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, location) = (self.path.display(), self.cause.location());
        write!(f, "the token file {path}: {location}{}", self.cause)
    }
}

impl Error for FileStoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Io(error) | Cause::Thread(error) => Some(&**error),
            _ => None,
        }
    }
}

impl Cause {
    pub(super) fn invalid(location: Location, problem: impl Into<Cow<'static, str>>) -> Self {
        let problem = problem.into();
        Self::Content { location, problem }
    }

    fn location(&self) -> Location {
        match self {
            Self::Syntax { location, .. }
            | Self::Content { location, .. }
            | Self::Token { location } => *location,
            _ => Location::default(),
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl Location {
    pub(super) fn line(line: impl Into<Option<usize>>) -> Self {
        Self {
            line: line.into(),
            ..Self::default()
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(column) = self.column {
            write!(f, "column {column}: ")?;
        }
        if let Some(token) = self.token {
            write!(f, "token {token}: ")?;
        }
        self.field.map_or(Ok(()), |field| write!(f, "`{field}` "))
    }
}
