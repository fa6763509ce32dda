use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnection, SqlitePool};
use tokio::time::{sleep, timeout};

use crate::store::sql::database_file::DatabaseFile;
use crate::store::sql::feed_tracker::FeedTracker;
use crate::store::sql::notification;
use crate::store::sql::session::{Session, Value};
use crate::store::{ChangeFeed, StoreError, TokenChange};

const DATA_VERSION: &str = "PRAGMA data_version";

const LAST_SEQ: &str = "SELECT COALESCE(MAX(seq), 0) FROM service_token_changes";

/// The last change that was seen, if it is still there, and those after it.
const CHANGES_SINCE: &str =
    "SELECT seq, change FROM service_token_changes WHERE seq >= $1 ORDER BY seq LIMIT $2";

/// More changes than these at once are told as one of everything.
const MAX_CHANGES_PER_POLL: u32 = 1000;

/// How long one query may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes the changes that any connection makes. Asks SQLite whether the file changed, which reads
/// no table, and then reads the log of changes.
///
/// 1. When it begins, and begins again after a failure, anything may have changed before; that is
///    told. The failure itself is not: what caches hold is as old as they allow and no older, and
///    they may need it while the file cannot be read.
/// 2. What this process changed is told once more.
pub(super) struct ChangeWatcher {
    /// Of one connection.
    pub(super) pool: SqlitePool,
    pub(super) file: Option<Arc<DatabaseFile>>,
    pub(super) feed: ChangeFeed,
    pub(super) status: Arc<FeedTracker>,
    pub(super) interval: Duration,
}

impl ChangeWatcher {
    pub(super) async fn run(self) {
        loop {
            let Err(error) = self.poll().await;
            self.status.set_lost(&error);
            sleep(self.interval).await;
        }
    }

    async fn poll(&self) -> Result<Infallible, WatchError> {
        self.check_file()?;
        let mut connection = self.pool.acquire().await?;
        let Err(error) = self.poll_with(&mut connection).await;
        connection.close_on_drop();
        Err(error)
    }

    async fn poll_with(&self, connection: &mut SqliteConnection) -> Result<Infallible, WatchError> {
        let mut version = query(first_number(connection, DATA_VERSION)).await?;
        let mut seen = query(first_number(connection, LAST_SEQ)).await?;
        self.feed.publish(&TokenChange::Everything);
        self.status.set_connected();
        loop {
            sleep(self.interval).await;
            self.check_file()?;
            let now = query(first_number(connection, DATA_VERSION)).await?;
            if now != version {
                version = now;
                seen = query(publish_changes(connection, &self.feed, seen)).await?;
            }
        }
    }

    fn check_file(&self) -> Result<(), StoreError> {
        self.file.as_ref().map_or(Ok(()), |file| file.check())
    }
}

/// Why changes are not received.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("{}", .0.source().map_or_else(|| .0.to_string(), ToString::to_string))]
    File(#[from] StoreError),
    #[error("{0}")]
    Sql(#[from] sqlx::Error),
    #[error("no answer in time")]
    TimedOut,
}

async fn query<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, WatchError> {
    let answered = timeout(QUERY_TIMEOUT, work).await;
    Ok(answered.map_err(|_| WatchError::TimedOut)??)
}

/// Publishes the changes after `seen`, and returns the last one.
async fn publish_changes(
    connection: &mut SqliteConnection,
    feed: &ChangeFeed,
    seen: i64,
) -> Result<i64, sqlx::Error> {
    let values = [
        Value::Int(Some(seen)),
        Value::Int(Some(MAX_CHANGES_PER_POLL.into())),
    ];
    let rows = Session::Sqlite(connection)
        .rows(CHANGES_SINCE, &values)
        .await?;
    let mut changes = Vec::new();
    for row in &rows {
        changes.push((
            row.int(0)?.unwrap_or(0),
            notification::decode(row.text(1)?.unwrap_or("")),
        ));
    }
    let first = changes.first().map_or(0, |(seq, _)| *seq);
    // The first change of all has the number 1, and so none before it.
    let has_gap = if seen == 0 { first > 1 } else { first != seen };
    if has_gap || changes.len() >= MAX_CHANGES_PER_POLL as usize {
        let last = first_number(connection, LAST_SEQ).await?;
        feed.publish(&TokenChange::Everything);
        return Ok(last);
    }
    for (_, change) in changes.iter().filter(|(seq, _)| *seq > seen) {
        feed.publish(change);
    }
    Ok(changes.last().map_or(seen, |(seq, _)| *seq))
}

async fn first_number(
    connection: &mut SqliteConnection,
    statement: &'static str,
) -> Result<i64, sqlx::Error> {
    let rows = Session::Sqlite(connection).rows(statement, &[]).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(row.int(0)?.unwrap_or(0))
}
