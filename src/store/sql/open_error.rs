use std::error::Error;
use std::fmt;

/// A SQL store could not be opened.
///
/// The source is for logs. It holds no password and no digest.
#[derive(Debug)]
pub struct OpenStoreError {
    kind: OpenStoreErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What kept a SQL store from being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenStoreErrorKind {
    /// The URL, the path or a setting cannot work.
    Configuration,
    /// The database could not be reached or did not answer in time.
    Unavailable,
    /// The tables were made by a newer release of this crate, so this one does not touch them.
    NewerSchema,
    /// The database refused to make or to read the tables.
    Refused,
}

impl OpenStoreError {
    pub(super) fn new(kind: OpenStoreErrorKind, source: impl Into<String>) -> Self {
        Self {
            kind,
            source: Some(source.into().into()),
        }
    }

    pub(super) fn newer_schema(found: i64, known: i64) -> Self {
        let source = format!("the tables have version {found}, this release knows {known}");
        Self::new(OpenStoreErrorKind::NewerSchema, source)
    }

    pub(super) fn timed_out() -> Self {
        Self::new(OpenStoreErrorKind::Unavailable, "no answer in time")
    }

    /// What kept the store from being opened.
    pub fn kind(&self) -> OpenStoreErrorKind {
        self.kind
    }
}

impl fmt::Display for OpenStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            OpenStoreErrorKind::Configuration => "the token store is not set up correctly",
            OpenStoreErrorKind::Unavailable => "the token store's database is unavailable",
            OpenStoreErrorKind::NewerSchema => {
                "the token store's tables were made by a newer release"
            }
            OpenStoreErrorKind::Refused => "the token store's database refused its tables",
        })
    }
}

impl Error for OpenStoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source: &(dyn Error + 'static) = self.source.as_deref()?;
        Some(source)
    }
}

/// The text only: the error itself may hold what it was called with.
impl From<sqlx::Error> for OpenStoreError {
    fn from(error: sqlx::Error) -> Self {
        let kind = match &error {
            sqlx::Error::Configuration(_) => OpenStoreErrorKind::Configuration,
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default();
                // PostgreSQL: connection failures, no such database, login refused, resources,
                // operators. SQLite: busy, locked, cannot open, each with its extended codes.
                let is_postgres = ["08", "28", "3D", "53", "57"];
                let is_postgres =
                    code.len() == 5 && is_postgres.iter().any(|class| code.starts_with(class));
                let sqlite: Option<u32> = code.parse().ok().filter(|_| code.len() < 5);
                let is_sqlite = sqlite.is_some_and(|code| [5, 6, 14].contains(&(code & 0xff)));
                if is_postgres || is_sqlite {
                    OpenStoreErrorKind::Unavailable
                } else {
                    OpenStoreErrorKind::Refused
                }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => OpenStoreErrorKind::Unavailable,
            _ => OpenStoreErrorKind::Refused,
        };
        Self::new(kind, error.to_string())
    }
}
