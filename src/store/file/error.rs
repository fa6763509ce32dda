use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file of tokens cannot be used.
///
/// It names the file, the place in it and the field, and repeats nothing that stands there: that
/// may be a secret.
#[derive(Clone, Debug)]
pub struct FileStoreError {
    path: PathBuf,
    cause: Cause,
}

/// What is wrong with a file of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileStoreErrorKind {
    /// It is not there, cannot be read or followed, or is no ordinary file.
    Unreadable,
    /// Others than its owner may write to it.
    Insecure,
    /// It is no TOML or JSON, or has neither extension.
    Malformed,
    /// What stands in it makes no sense.
    Invalid,
    /// It holds a token. That token should be revoked: it was written down.
    ContainsToken,
}

#[derive(Clone, Debug)]
pub(super) enum Cause {
    Io(Arc<io::Error>),
    Thread(Arc<io::Error>),
    NotAFile,
    TooLarge,
    Changing,
    Insecure {
        mode: u32,
    },
    Extension,
    NotUtf8,
    Syntax {
        format: &'static str,
        location: Location,
    },
    Content {
        location: Location,
        problem: Problem,
    },
    Token {
        location: Location,
    },
}

/// What is wrong with one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("is missing")]
    Missing,
    #[error("is no field of a token: those are {}", super::entry::FIELDS.join(", "))]
    UnknownField,
    #[error("is no field of the file: that is `tokens` alone")]
    UnknownTopLevelField,
    #[error("stands there twice")]
    Repeated,
    #[error("must be {0}")]
    WrongType(&'static str),
    #[error("must be 'sha256:' and 64 hexadecimal digits; the file holds digests, never tokens")]
    Digest,
    #[error("must be ten characters of 0-9, A-Z and a-z")]
    Id,
    #[error("is that of an earlier token too")]
    Duplicate,
    #[error("must not be empty or hold control characters")]
    Text,
    #[error("must be of visible ASCII characters without '\"' and '\\'")]
    Scope,
    #[error("must be active, disabled or revoked")]
    State,
    #[error("must be a date that exists, yyyy-MM-dd, or an RFC 3339 time with its offset")]
    Time,
    #[error("must be a time before the year 10000")]
    TimeOverflow,
}

/// Where something is wrong, as far as that is known. Lines, columns and tokens count from 1.
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

    /// What is wrong, in one word.
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

    /// The file, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The line it is on, counted from 1, if that is known.
    pub fn line(&self) -> Option<usize> {
        match self.cause {
            Cause::Syntax { location, .. }
            | Cause::Content { location, .. }
            | Cause::Token { location } => location.line,
            _ => None,
        }
    }

    /// Whether this says the same as `other`.
    pub(super) fn has_same_message(&self, other: &Self) -> bool {
        let texts = |error: &Self| (error.to_string(), error.source().map(ToString::to_string));
        texts(self) == texts(other)
    }
}

impl fmt::Display for FileStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the token file {}: ", self.path.display())?;
        match &self.cause {
            Cause::Io(_) => f.write_str("cannot be read"),
            Cause::Thread(_) => f.write_str("cannot be followed: no thread could be started"),
            Cause::NotAFile => f.write_str("is not an ordinary file"),
            Cause::TooLarge => write!(f, "is longer than {} bytes", super::source::MAX_BYTES),
            Cause::Changing => f.write_str("changed while it was read"),
            Cause::Insecure { mode } => {
                write!(
                    f,
                    "others than its owner may write to it (mode {mode:04o}); run chmod go-w"
                )
            }
            Cause::Extension => f.write_str("its name must end in .toml or .json"),
            Cause::NotUtf8 => f.write_str("is not UTF-8"),
            Cause::Syntax { format, location } => write!(f, "{location}is not {format}"),
            Cause::Content { location, problem } => write!(f, "{location}{problem}"),
            Cause::Token { location } => write!(
                f,
                "{location}this looks like a token; the file must hold digests, never tokens"
            ),
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

impl Error for FileStoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Io(error) | Cause::Thread(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}
