use std::time::Duration;

use sqlx::error::DatabaseError;
use tokio::time::{sleep, timeout};

use super::open_error::OpenStoreError;
use super::pool::{Lease, Pool};
use super::session::{Session, Value};
use super::state;

/// The version that this release knows: how many steps there are.
const VERSION: i64 = 2;

#[cfg(feature = "sqlite")]
const SQLITE: [&str; 2] = [include_str!("sqlite_1.sql"), include_str!("sqlite_2.sql")];

#[cfg(feature = "postgres")]
const POSTGRES: [&str; 2] = [
    include_str!("postgres_1.sql"),
    include_str!("postgres_2.sql"),
];

/// For a connection, and for all steps.
const PREPARE_TIMEOUTS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];

/// Between two attempts, for the transactions that waited.
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(500);

#[cfg(feature = "sqlite")]
const EXISTS_SQLITE: &str =
    "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'service_token_schema'";

// Of a table: only then is heard what others committed while this waited for its turn.
#[cfg(feature = "postgres")]
const EXISTS_POSTGRES: &str =
    "SELECT 1::BIGINT FROM pg_catalog.pg_class WHERE oid = to_regclass('service_token_schema')";

const READ: &str = "SELECT version FROM service_token_schema";

const CREATE: &str = "CREATE TABLE service_token_schema (version BIGINT NOT NULL)";

const CLEAR: &str = "DELETE FROM service_token_schema";

const WRITE: &str = "INSERT INTO service_token_schema (version) VALUES ($1)";

/// Makes the tables, or brings them to the version that this release knows. Several processes may
/// do so at once.
pub(super) async fn prepare(pool: &Pool) -> Result<(), OpenStoreError> {
    let timed_out = |_| OpenStoreError::timed_out();
    let lease = timeout(PREPARE_TIMEOUTS[0], pool.writer())
        .await
        .map_err(timed_out)?;
    let mut lease = lease?;
    let prepared = timeout(PREPARE_TIMEOUTS[1], async {
        // Who may not make tables can still use those that are there.
        let found = version(&mut lease.session()).await?;
        if found == Some(VERSION) {
            return Ok(());
        }
        loop {
            match migrate(&mut lease).await {
                Err(MigrationError::Locked) => sleep(LOCK_RETRY_DELAY).await,
                Err(MigrationError::Failed(error)) => return Err(error),
                Ok(()) => {
                    log_migrated(found);
                    return Ok(());
                }
            }
        }
    });
    prepared.await.map_err(timed_out)?
}

#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "logged only")
)]
fn log_migrated(from: Option<i64>) {
    #[cfg(feature = "tracing")]
    tracing::info!(target: "tower_service_token", from, to = VERSION, "database schema migrated");
}

/// Why an attempt to migrate failed.
enum MigrationError {
    /// Another transaction has locked a table for too long.
    Locked,
    Failed(OpenStoreError),
}

impl From<sqlx::Error> for MigrationError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(DatabaseError::code);
        if code.is_some_and(|code| code == "55P03") {
            Self::Locked
        } else {
            Self::Failed(error.into())
        }
    }
}

async fn migrate(lease: &mut Lease) -> Result<(), MigrationError> {
    let mut transaction = lease.begin(PREPARE_TIMEOUTS[1]).await?;
    migrate_in(&mut transaction.session()).await?;
    transaction.commit().await?;
    Ok(())
}

async fn migrate_in(session: &mut Session<'_>) -> Result<(), MigrationError> {
    session.lock_schema().await?;
    let found = version(session).await?;
    let done = found.unwrap_or(0);
    if done > VERSION {
        return Err(MigrationError::Failed(OpenStoreError::newer_schema(
            done, VERSION,
        )));
    }
    if found.is_none() {
        session.script(CREATE).await?;
    }
    let steps: &[&str] = match session {
        #[cfg(feature = "sqlite")]
        Session::Sqlite(_) => &SQLITE,
        #[cfg(feature = "postgres")]
        Session::Postgres(_) => &POSTGRES,
    };
    for step in steps.iter().skip(usize::try_from(done).unwrap_or(0)) {
        session.script(step).await?;
    }
    state::create(session).await?;
    session.execute(CLEAR, &[]).await?;
    session.execute(WRITE, &[Value::Int(Some(VERSION))]).await?;
    Ok(())
}

/// `None` if there are no tables; 0 if they were begun and are empty.
async fn version(session: &mut Session<'_>) -> Result<Option<i64>, sqlx::Error> {
    let exists = match session {
        #[cfg(feature = "sqlite")]
        Session::Sqlite(_) => EXISTS_SQLITE,
        #[cfg(feature = "postgres")]
        Session::Postgres(_) => EXISTS_POSTGRES,
    };
    if session.rows(exists, &[]).await?.is_empty() {
        return Ok(None);
    }
    let rows = session.rows(READ, &[]).await?;
    let version = rows.first().map(|row| row.int(0)).transpose()?;
    Ok(Some(version.flatten().unwrap_or(0)))
}
