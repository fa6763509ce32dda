use super::columns::Undecodable;
use crate::store::{RegistryError, StoreError};

/// Why a step was not done.
pub(super) enum Failure {
    /// The connection had gone before anything was changed: another one may do.
    Stale(sqlx::Error),
    Sql(sqlx::Error),
    Corrupt(Undecodable),
    Refused(RegistryError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Undecodable> for Failure {
    fn from(error: Undecodable) -> Self {
        match error {
            Undecodable::Sql(error) => Self::Sql(error),
            error @ Undecodable::Column(..) => Self::Corrupt(error),
        }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Stale(error) | Failure::Sql(error) => store_error(&error),
            Failure::Corrupt(error) => Self::corrupt(error.to_string()),
            Failure::Refused(RegistryError::Store(error)) => error,
            Failure::Refused(error) => Self::corrupt(error),
        }
    }
}

impl From<Failure> for RegistryError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::Sql(error) => match violated(&error) {
                Some(violated) => violated,
                None => Self::Store(store_error(&error)),
            },
            failure => Self::Store(failure.into()),
        }
    }
}

/// The text only: the error itself may hold values of a row, which its `Debug` would show.
fn store_error(error: &sqlx::Error) -> StoreError {
    if is_corrupt(error) {
        StoreError::corrupt(error.to_string())
    } else {
        StoreError::unavailable(error.to_string())
    }
}

fn is_corrupt(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::TypeNotFound { .. }
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::ColumnNotFound(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // PostgreSQL: a value that cannot be, a value too long for an index, a damaged page
            // or index. SQLite: a damaged file, not a database, in the low byte.
            let is_postgres = code.len() == 5
                && (code.starts_with("22") || ["54000", "XX001", "XX002"].contains(&code.as_ref()));
            let is_sqlite = code.len() < 5
                && code
                    .parse()
                    .is_ok_and(|code: u32| [11, 26].contains(&(code & 0xff)));
            is_postgres || is_sqlite
        }),
        _ => false,
    }
}

/// Whether the connection is of no more use, so that another one may have a better answer.
pub(super) fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // PostgreSQL is going down, or ended the connection.
            ["57P01", "57P02", "57P03", "57P05"].contains(&code.as_ref())
                || (code.len() == 5 && code.starts_with("08"))
        }),
        _ => false,
    }
}

/// What a unique index refused that the check before had not seen, as another writer was quicker.
fn violated(error: &sqlx::Error) -> Option<RegistryError> {
    let error = error.as_database_error()?;
    if !error.is_unique_violation() {
        return None;
    }
    // PostgreSQL names the constraint, SQLite tells the column.
    let told = match error.constraint() {
        Some(constraint) => constraint,
        None => error.message(),
    };
    if told.contains("reserved_name") {
        Some(RegistryError::NameTaken)
    } else if told.contains("digest") {
        Some(RegistryError::DuplicateDigest)
    } else {
        Some(RegistryError::DuplicateId)
    }
}
