use tokio::time::{Instant, timeout_at};

use super::columns::DecodeError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// Why an operation failed.
pub(super) enum Failure {
    /// The connection failed before the commit was sent. Nothing was changed, and another connection
    /// may succeed.
    Retryable(sqlx::Error),
    /// The deadline passed before the commit was sent.
    TimedOut,
    /// The deadline passed before the commit was answered.
    CommitTimedOut,
    /// The deadline passed before a connection was available.
    AcquireTimedOut,
    /// The connection failed before the commit was answered.
    CommitUnknown(sqlx::Error),
    Sql(sqlx::Error),
    Corrupt(DecodeError),
    Rejected(RegistryError),
}

/// The effect of a failure on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection works.
    None,
    /// The connection is no longer usable.
    Connection,
    /// The connection counts a transaction as open that the database has ended by itself, as SQLite
    /// does on a full disk.
    Transaction,
    /// The connection did not answer in time. The statement is slow, or the server is gone.
    TimedOut,
    /// The server does not accept changes.
    ReadOnly,
    /// The server is gone. No connection opened so far is usable.
    Server,
}

impl Failure {
    /// Marks a failure that happened before the commit was sent.
    pub(super) fn before_commit(self) -> Self {
        match self {
            Self::Sql(error) if fault(&error) != Fault::None => Self::Retryable(error),
            failure => failure,
        }
    }

    /// Classifies a failure of a commit.
    pub(super) fn of_commit(error: sqlx::Error) -> Self {
        match fault(&error) {
            Fault::None => Self::Sql(error),
            _ => Self::CommitUnknown(error),
        }
    }

    /// Returns whether PostgreSQL refused the statement because the role lacks a privilege.
    pub(super) fn is_permission_denied(&self) -> bool {
        let Self::Sql(sqlx::Error::Database(error)) = self else {
            return false;
        };
        error.code().is_some_and(|code| code == "42501")
    }

    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Retryable(error) | Self::CommitUnknown(error) | Self::Sql(error) => fault(error),
            Self::TimedOut | Self::CommitTimedOut => Fault::TimedOut,
            Self::AcquireTimedOut | Self::Corrupt(_) | Self::Rejected(_) => Fault::None,
        }
    }
}

pub(super) async fn before_deadline<T>(
    deadline: Instant,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let outcome = timeout_at(deadline, work).await;
    outcome.map_err(|_| Failure::TimedOut)
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Sql(error) => Self::Sql(error),
            error => Self::Corrupt(error),
        }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Rejected(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Rejected(error.into())
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Retryable(error) | Failure::Sql(error) => store_error(&error),
            Failure::TimedOut => Self::unavailable("timed out"),
            Failure::CommitTimedOut => {
                Self::unavailable("the outcome of the change is unknown: timed out")
            }
            Failure::AcquireTimedOut => Self::unavailable("no connection in time"),
            Failure::CommitUnknown(error) => Self::unavailable(format!(
                "the outcome of the change is unknown: {}",
                message(&error)
            )),
            Failure::Corrupt(error) => Self::corrupt(error.to_string()),
            Failure::Rejected(RegistryError::Store(error)) => error,
            Failure::Rejected(error) => Self::corrupt(error),
        }
    }
}

impl From<Failure> for RegistryError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected(error) => error,
            Failure::Sql(error) => match unique_violation(&error) {
                Some(unique_violation) => unique_violation,
                None => Self::Store(store_error(&error)),
            },
            failure => Self::Store(failure.into()),
        }
    }
}

/// Keeps only the text, because `Debug` of the error may show values of a row.
fn store_error(error: &sqlx::Error) -> StoreError {
    if is_corrupt(error) {
        StoreError::corrupt(message(error))
    } else {
        StoreError::unavailable(message(error))
    }
}

/// Returns the message without its details, which may contain values of a row. The message of
/// PostgreSQL is in the language of the server, so it includes the code.
pub(super) fn message(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => match database.code() {
            Some(code) if code.len() == 5 => format!("{} (SQLSTATE {code})", database.message()),
            _ => error.to_string(),
        },
        error => error.to_string(),
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
            // PostgreSQL: an invalid value, a value too long for an index, a damaged page or index.
            // SQLite: a damaged file, not a database.
            let is_postgres = code.len() == 5
                && (code.starts_with("22") || ["54000", "XX001", "XX002"].contains(&code.as_ref()));
            is_postgres || is_sqlite_code(&code, &[11, 26])
        }),
        _ => false,
    }
}

/// Returns whether a code is one of these primary result codes of SQLite or an extension of one.
pub(super) fn is_sqlite_code(code: &str, primary: &[u32]) -> bool {
    let is_primary = |code: u32| primary.contains(&(code & 0xff));
    code.len() < 5 && code.parse().is_ok_and(is_primary)
}

pub(super) fn fault(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed
        | sqlx::Error::WorkerCrashed => Fault::Server,
        sqlx::Error::InvalidSavePointStatement => Fault::Transaction,
        sqlx::Error::Database(error) => error
            .code()
            .map_or(Fault::None, |code| fault_for_sqlstate(&code)),
        _ => Fault::None,
    }
}

/// Classifies an SQLSTATE. SQLite's codes are shorter.
fn fault_for_sqlstate(code: &str) -> Fault {
    match code {
        // 25006: the server is read-only. 0A000: a standby, or a cached plan that a schema change
        // invalidated; another connection may accept the statement.
        "25006" | "0A000" => Fault::ReadOnly,
        // Shut down by an administrator, crashed, starting up, or the database was dropped.
        "57P01" | "57P02" | "57P03" | "57P04" => Fault::Server,
        // The session waited for too long, or conflicted with the recovery of a standby. Its locks and
        // snapshots are gone, or it has ended.
        "57P05" | "25P03" | "25P02" | "40001" => Fault::Connection,
        code if code.len() == 5 && code.starts_with("08") => Fault::Server,
        _ => Fault::None,
    }
}

/// Returns which unique index refused a value that another writer stored after the check.
fn unique_violation(error: &sqlx::Error) -> Option<RegistryError> {
    let error = error.as_database_error()?;
    if !error.is_unique_violation() {
        return None;
    }
    // PostgreSQL names the constraint, SQLite the column.
    let name = match error.constraint() {
        Some(constraint) => constraint,
        None => error.message(),
    };
    if name.contains("reserved_name") {
        Some(RegistryError::NameTaken)
    } else if name.contains("digest") {
        Some(RegistryError::DuplicateDigest)
    } else {
        Some(RegistryError::DuplicateId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifies_sqlstates() {
        for code in ["25006", "0A000"] {
            assert_eq!(fault_for_sqlstate(code), Fault::ReadOnly, "{code}");
        }
        for code in ["57P01", "57P02", "57P03", "57P04", "08006", "08P01"] {
            assert_eq!(fault_for_sqlstate(code), Fault::Server, "{code}");
        }
        for code in ["57P05", "25P03", "40001"] {
            assert_eq!(fault_for_sqlstate(code), Fault::Connection, "{code}");
        }
        // Statement and lock timeouts, a full disk, a violated constraint; codes of SQLite.
        for code in ["57014", "55P03", "53100", "23505", "5", "08", "2067"] {
            assert_eq!(fault_for_sqlstate(code), Fault::None, "{code}");
        }
    }
}
