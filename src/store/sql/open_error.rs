use std::error::Error;

use sqlx::error::DatabaseError;

use super::failure::{is_sqlite_code, message};

/// The error of opening a SQL store.
///
/// The source is for logs. It contains no password and no digest.
#[derive(Debug, thiserror::Error)]
#[error("{}", .kind.message())]
pub struct OpenStoreError {
    kind: OpenStoreErrorKind,
    source: Box<dyn Error + Send + Sync>,
    /// Whether a statement waited for a lock for too long.
    is_lock_timeout: bool,
}

/// Why a SQL store could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenStoreErrorKind {
    /// The URL, the path or a setting is not valid.
    Configuration,
    /// The database is unreachable or did not answer in time.
    Unavailable,
    /// The tables are of a newer release of this crate.
    NewerSchema,
    /// The database rejected the statements that create or read the tables.
    Rejected,
}

impl OpenStoreErrorKind {
    fn message(self) -> &'static str {
        match self {
            Self::Configuration => "the configuration of the token store is not valid",
            Self::Unavailable => "the database of the token store is unavailable",
            Self::NewerSchema => "the tables of the token store are of a newer release",
            Self::Rejected => "the database rejected the statements for the token store's tables",
        }
    }
}

impl OpenStoreError {
    pub(super) fn new(kind: OpenStoreErrorKind, source: impl Into<String>) -> Self {
        Self {
            kind,
            source: source.into().into(),
            is_lock_timeout: false,
        }
    }

    pub(super) fn newer_schema(found: i64, known: usize) -> Self {
        let source = format!("the tables have version {found}, this release knows {known}");
        Self::new(OpenStoreErrorKind::NewerSchema, source)
    }

    pub(super) fn timed_out() -> Self {
        Self::new(OpenStoreErrorKind::Unavailable, "timed out")
    }

    /// Returns whether another transaction holds a lock on a table, so that a later attempt may
    /// succeed.
    pub(super) fn is_lock_timeout(&self) -> bool {
        self.is_lock_timeout
    }

    /// Returns why the store could not be opened.
    pub fn kind(&self) -> OpenStoreErrorKind {
        self.kind
    }
}

/// Keeps only the text, because the error may contain its arguments.
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
                if is_postgres || is_sqlite_code(&code, &[5, 6, 14]) {
                    OpenStoreErrorKind::Unavailable
                } else {
                    OpenStoreErrorKind::Rejected
                }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => OpenStoreErrorKind::Unavailable,
            _ => OpenStoreErrorKind::Rejected,
        };
        let code = error.as_database_error().and_then(DatabaseError::code);
        Self {
            is_lock_timeout: code
                .is_some_and(|code| code == "55P03" || is_sqlite_code(&code, &[5])),
            ..Self::new(kind, message(&error))
        }
    }
}
