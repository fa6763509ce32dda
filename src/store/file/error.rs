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
    fault: Fault,
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
    HoldsToken,
}

#[derive(Clone, Debug)]
pub(super) enum Fault {
    Io(Arc<io::Error>),
    Thread(Arc<io::Error>),
    NotAFile,
    TooLong,
    Changing,
    Insecure { mode: u32 },
    Extension,
    NotUtf8,
    Syntax { format: &'static str, place: Place },
    Content { place: Place, problem: Problem },
    Token { place: Place },
}

/// What is wrong with one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("is missing")]
    Missing,
    #[error("is no field of a token: those are {}", super::entry::FIELDS.join(", "))]
    UnknownField,
    #[error("is no field of the file: that is `tokens` alone")]
    UnknownTopField,
    #[error("stands there twice")]
    Repeated,
    #[error("must be {0}")]
    Kind(&'static str),
    #[error("must be 'sha256:' and 64 hexadecimal digits; the file holds digests, never tokens")]
    Digest,
    #[error("must be ten characters of 0-9, A-Z and a-z")]
    Id,
    #[error("is that of an earlier token too")]
    Taken,
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
pub(super) struct Place {
    pub(super) line: Option<usize>,
    pub(super) column: Option<usize>,
    pub(super) token: Option<usize>,
    pub(super) field: Option<&'static str>,
}

impl FileStoreError {
    pub(super) fn new(path: &Path, fault: Fault) -> Self {
        let path = path.to_owned();
        Self { path, fault }
    }

    /// What is wrong, in one word.
    pub fn kind(&self) -> FileStoreErrorKind {
        match self.fault {
            Fault::Io(_)
            | Fault::Thread(_)
            | Fault::NotAFile
            | Fault::TooLong
            | Fault::Changing => FileStoreErrorKind::Unreadable,
            Fault::Insecure { .. } => FileStoreErrorKind::Insecure,
            Fault::Extension | Fault::NotUtf8 | Fault::Syntax { .. } => {
                FileStoreErrorKind::Malformed
            }
            Fault::Content { .. } => FileStoreErrorKind::Invalid,
            Fault::Token { .. } => FileStoreErrorKind::HoldsToken,
        }
    }

    /// The file, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The line it is on, counted from 1, if that is known.
    pub fn line(&self) -> Option<usize> {
        match self.fault {
            Fault::Syntax { place, .. } | Fault::Content { place, .. } | Fault::Token { place } => {
                place.line
            }
            _ => None,
        }
    }

    /// Whether this says the same as `other`.
    pub(super) fn repeats(&self, other: &Self) -> bool {
        let texts = |error: &Self| (error.to_string(), error.source().map(ToString::to_string));
        texts(self) == texts(other)
    }
}

impl fmt::Display for FileStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the token file {}: ", self.path.display())?;
        match &self.fault {
            Fault::Io(_) => f.write_str("cannot be read"),
            Fault::Thread(_) => f.write_str("cannot be followed: no thread could be started"),
            Fault::NotAFile => f.write_str("is not an ordinary file"),
            Fault::TooLong => write!(f, "is longer than {} bytes", super::source::MAX_BYTES),
            Fault::Changing => f.write_str("changed while it was read"),
            Fault::Insecure { mode } => {
                write!(
                    f,
                    "others than its owner may write to it (mode {mode:04o}); run chmod go-w"
                )
            }
            Fault::Extension => f.write_str("its name must end in .toml or .json"),
            Fault::NotUtf8 => f.write_str("is not UTF-8"),
            Fault::Syntax { format, place } => write!(f, "{place}is not {format}"),
            Fault::Content { place, problem } => write!(f, "{place}{problem}"),
            Fault::Token { place } => write!(
                f,
                "{place}this looks like a token; the file must hold digests, never tokens"
            ),
        }
    }
}

impl fmt::Display for Place {
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
        match &self.fault {
            Fault::Io(error) | Fault::Thread(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}
