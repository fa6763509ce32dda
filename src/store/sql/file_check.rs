#[cfg(feature = "sqlite")]
use std::time::Duration;

#[cfg(feature = "sqlite")]
use sqlx::Connection;
#[cfg(feature = "sqlite")]
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
#[cfg(feature = "sqlite")]
use tokio::time::sleep;

use super::failure::Failure;
#[cfg(feature = "sqlite")]
use super::session::Session;
use super::tables::Tables;
use crate::store::StoreError;

#[cfg(feature = "sqlite")]
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// How often a log that remains is removed, with a pause for connections that are being closed.
#[cfg(feature = "sqlite")]
const MAX_REMOVAL_ATTEMPTS: u32 = 3;

#[cfg(feature = "sqlite")]
const REMOVAL_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Whether a file is compared now, or unless it just was.
#[derive(Clone, Copy)]
pub(super) enum FileCheck {
    Now,
    AtInterval,
}

impl Tables {
    pub(super) fn begin_failure(&self, error: sqlx::Error) -> Failure {
        if self.has_broken_transaction(&error) {
            Failure::Retryable(error)
        } else {
            Failure::from(error).before_commit()
        }
    }

    /// Whether the connection's last transaction was ended by SQLite itself, as on a full disk: sqlx
    /// takes it for open still, and begins no other. The connection of a database in memory is the
    /// database, and is kept.
    #[cfg(feature = "sqlite")]
    pub(super) fn has_broken_transaction(&self, error: &sqlx::Error) -> bool {
        self.file.is_some() && matches!(error, sqlx::Error::InvalidSavePointStatement)
    }

    #[cfg(not(feature = "sqlite"))]
    #[expect(clippy::unused_self, reason = "as for SQLite")]
    pub(super) fn has_broken_transaction(&self, _: &sqlx::Error) -> bool {
        false
    }

    /// Moves the log into the database file, so that the file is complete without it. While another
    /// process uses the database, the log may remain for that process to move.
    #[cfg(feature = "sqlite")]
    pub(super) async fn checkpoint(&self) -> Result<(), Failure> {
        if self.file.is_none() || self.pool.is_closed() {
            return Ok(());
        }
        let mut lease = self.pool.writer().await?;
        lease.session().rows(CHECKPOINT, &[]).await?;
        Ok(())
    }

    /// Opens and closes a closed database once more while its log remains: of connections that close
    /// at the same time, each leaves the log to the other. Another process may need it still.
    #[cfg(feature = "sqlite")]
    pub(super) async fn remove_wal(&self) -> Result<(), Failure> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        for _ in 0..MAX_REMOVAL_ATTEMPTS {
            if !file.has_wal() {
                break;
            }
            let options = SqliteConnectOptions::new()
                .filename(file.path())
                .create_if_missing(false);
            let mut connection = SqliteConnection::connect_with(&options).await?;
            let moved = Session::Sqlite(&mut connection).rows(CHECKPOINT, &[]).await;
            connection.close().await?;
            moved?;
            sleep(REMOVAL_RETRY_DELAY).await;
        }
        Ok(())
    }

    /// Returns an error if the database is no longer the file that its path leads to.
    #[cfg(feature = "sqlite")]
    pub(super) fn check_file(&self, check: FileCheck) -> Result<(), StoreError> {
        match &self.file {
            // The log of a closed database may be gone.
            Some(file) if !self.pool.is_closed() => match check {
                FileCheck::Now => file.check(),
                FileCheck::AtInterval => file.check_at_interval(),
            },
            _ => Ok(()),
        }
    }

    #[cfg(not(feature = "sqlite"))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "as for SQLite"
    )]
    pub(super) fn check_file(&self, _: FileCheck) -> Result<(), StoreError> {
        Ok(())
    }
}
