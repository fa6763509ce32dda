use super::failure::Failure;
use super::tables::Tables;
use crate::store::StoreError;

#[cfg(feature = "sqlite")]
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// Whether a file is compared now, or unless it just was.
#[derive(Clone, Copy)]
pub(super) enum FileCheck {
    Now,
    AtInterval,
}

impl Tables {
    pub(super) fn begin_failure(&self, error: sqlx::Error) -> Failure {
        if self.is_stuck(&error) {
            Failure::Stale(error)
        } else {
            Failure::from(error).before_commit()
        }
    }

    /// Whether the connection's last transaction was ended by SQLite itself, as on a full disk: sqlx
    /// takes it for open still, and begins no other. The connection of a database in memory is the
    /// database, and is kept.
    #[cfg(feature = "sqlite")]
    pub(super) fn is_stuck(&self, error: &sqlx::Error) -> bool {
        self.file.is_some() && matches!(error, sqlx::Error::InvalidSavePointStatement)
    }

    #[cfg(not(feature = "sqlite"))]
    #[expect(clippy::unused_self, reason = "as for SQLite")]
    pub(super) fn is_stuck(&self, _: &sqlx::Error) -> bool {
        false
    }

    /// Moves the log into the database file, so that the file is complete without it. While another
    /// process uses the database, the log may remain for that process to move.
    #[cfg(feature = "sqlite")]
    pub(super) async fn complete_file(&self) -> Result<(), Failure> {
        if self.file.is_none() || self.pool.is_closed() {
            return Ok(());
        }
        let mut lease = self.pool.writer().await?;
        lease.session().rows(CHECKPOINT, &[]).await?;
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
