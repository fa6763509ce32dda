//! Creates and migrates the tables.
//!
//! The scripts in `schema/` do everything that a version needs, so that a database administrator
//! can run them instead.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::backend::{Access, Backend, ConnectionOf};
use super::open_error::OpenStoreError;
use super::session::{self, Driver, NamedColumns, Session};

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);

/// A statement that waits for a lock blocks the statements that come after it, so a migration gives
/// up soon and tries again.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// Between two attempts, for the transactions that waited.
const LOCK_PAUSE: Duration = Duration::from_millis(500);

/// Serializes migrations.
const LOCK: i64 = 0x7365_7276_746f_6b02;

const VERSION: &str = "SELECT version FROM service_token_schema";

/// Brings the tables to this release's version. Several processes may do so at once.
pub(super) async fn migrate<B: Backend>(backend: &B) -> Result<(), OpenStoreError> {
    let timed_out = |_| OpenStoreError::timed_out();
    let lease = timeout(CONNECT_TIMEOUT, backend.acquire(Access::Write));
    let mut lease = lease.await.map_err(timed_out)??;
    let migrated = timeout(MIGRATION_TIMEOUT, async {
        // A role without the right to create tables can use those that exist.
        let missing = missing_scripts(&mut *lease).await?;
        if missing.is_empty() {
            return Ok(());
        }
        loop {
            match try_migrate::<B>(&mut lease).await {
                Err(error) if error.is_lock_timeout() => sleep(LOCK_PAUSE).await,
                Err(error) => return Err(error),
                Ok(to) => {
                    log_migrated(to - missing.len(), to);
                    return Ok(());
                }
            }
        }
    });
    migrated.await.map_err(timed_out)?
}

/// Creates the table of tickets unless it exists.
pub(super) async fn create_tickets<B: Backend>(backend: &B) -> Result<(), OpenStoreError> {
    let created = timeout(CONNECT_TIMEOUT, async {
        let mut lease = backend.acquire(Access::Write).await?;
        let dialect = <ConnectionOf<B> as Session>::DIALECT;
        // A role without the right to create tables can use one that exists.
        if lease.row(dialect.has_tickets.into(), &[]).await?.is_some() {
            return Ok(());
        }
        let mut transaction = B::begin(&mut lease, CONNECT_TIMEOUT, LOCK_TIMEOUT).await?;
        session::lock(&mut *transaction, LOCK).await?;
        transaction.script(dialect.create_tickets).await?;
        Ok(transaction.commit().await?)
    });
    created.await.map_err(|_| OpenStoreError::timed_out())?
}

/// Logs no previous version for new tables.
fn log_migrated(from: usize, to: usize) {
    #[cfg(not(feature = "tracing"))]
    let _ = (from, to);
    #[cfg(feature = "tracing")]
    tracing::info!(
        target: "tower_service_token",
        from = (from > 0).then_some(from),
        to,
        "database schema migrated"
    );
}

/// Migrates the tables and returns their version.
async fn try_migrate<B: Backend>(lease: &mut B::Lease) -> Result<usize, OpenStoreError> {
    let mut transaction = B::begin(lease, MIGRATION_TIMEOUT, LOCK_TIMEOUT).await?;
    let session = &mut *transaction;
    session::lock(session, LOCK).await?;
    // Another process may have migrated the tables meanwhile.
    for script in missing_scripts(session).await? {
        session.script(script).await?;
    }
    transaction.commit().await?;
    Ok(<ConnectionOf<B> as Session>::DIALECT.migrations.len())
}

/// Returns the scripts of the versions after the current one.
async fn missing_scripts<S: Session>(
    session: &mut S,
) -> Result<&'static [&'static str], OpenStoreError> {
    let scripts = S::DIALECT.migrations;
    let exists = session.row(S::DIALECT.has_schema.into(), &[]);
    if exists.await?.is_none() {
        return Ok(scripts);
    }
    let row = session.row(VERSION.into(), &[]).await?;
    let version = row.map_or(Ok(None), |row| row.int("version"))?;
    let version = version.unwrap_or(0);
    let done = usize::try_from(version).ok();
    let missing = done.and_then(|done| scripts.get(done..));
    missing.ok_or_else(|| OpenStoreError::newer_schema(version, scripts.len()))
}
