use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnection, SqlitePool};
use tokio::time::{sleep, timeout};

use super::file::DatabaseFile;
use crate::store::sql::feed_tracker::FeedTracker;
use crate::store::sql::notification;
use crate::store::sql::session::{Driver, NamedColumns};
use crate::store::{StoreError, TokenChange};

const DATA_VERSION: &str = "PRAGMA data_version";

const LAST_SEQ: &str = "SELECT COALESCE(MAX(seq), 0) AS seq FROM service_token_changes";

/// Selects the last change that was seen, if it still exists, and those after it.
const CHANGES_SINCE: &str =
    "SELECT seq, change FROM service_token_changes WHERE seq >= $1 ORDER BY seq LIMIT $2";

/// More changes at once are published as [`TokenChange::Everything`].
const MAX_CHANGES: u32 = 1000;

const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes the changes that any connection makes. Polls whether the file changed, which reads no
/// table, and then reads the log of changes.
///
/// - When it starts, and when it resumes after a failure, anything may have changed, so it publishes
///   [`TokenChange::Everything`]. It publishes nothing at the failure itself: cached entries are
///   within their TTL, and callers may need them while the file is unreadable.
/// - It publishes the changes of this process a second time.
pub(super) struct ChangeWatcher {
    /// Has one connection.
    pub(super) pool: SqlitePool,
    pub(super) file: Option<Arc<DatabaseFile>>,
    pub(super) feed: Arc<FeedTracker>,
    pub(super) interval: Duration,
}

impl ChangeWatcher {
    pub(super) async fn run(self) {
        loop {
            let Err(error) = self.poll().await;
            self.feed.set_lost(&error);
            sleep(self.interval).await;
        }
    }

    async fn poll(&self) -> Result<Infallible, WatchError> {
        self.check_file()?;
        let mut connection = self.pool.acquire().await?;
        let Err(error) = self.follow_on(&mut connection).await;
        connection.close_on_drop();
        Err(error)
    }

    async fn follow_on(&self, connection: &mut SqliteConnection) -> Result<Infallible, WatchError> {
        let mut version = query(number(connection, DATA_VERSION, "data_version")).await?;
        let mut seen = query(number(connection, LAST_SEQ, "seq")).await?;
        self.feed.set_connected();
        loop {
            sleep(self.interval).await;
            self.check_file()?;
            let now = query(number(connection, DATA_VERSION, "data_version")).await?;
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
    #[error("timed out")]
    TimedOut,
}

async fn query<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, WatchError> {
    let answered = timeout(QUERY_TIMEOUT, work).await;
    Ok(answered.map_err(|_| WatchError::TimedOut)??)
}

/// Publishes the changes after `seen` and returns the last one.
async fn publish_changes(
    connection: &mut SqliteConnection,
    feed: &FeedTracker,
    seen: i64,
) -> Result<i64, sqlx::Error> {
    let values = [seen.into(), i64::from(MAX_CHANGES).into()];
    let rows = connection.rows(CHANGES_SINCE.into(), &values).await?;
    let mut changes = Vec::new();
    for row in &rows {
        let change = notification::decode(row.text("change")?.unwrap_or_default());
        changes.push((row.int("seq")?.unwrap_or_default(), change));
    }
    let first = changes.first().map_or(0, |(seq, _)| *seq);
    // The first change of all has the number 1 and no predecessor.
    let has_gap = if seen == 0 { first > 1 } else { first != seen };
    if has_gap || changes.len() >= MAX_CHANGES as usize {
        let last = number(connection, LAST_SEQ, "seq").await?;
        feed.publish(&TokenChange::Everything);
        return Ok(last);
    }
    for (_, change) in changes.iter().filter(|(seq, _)| *seq > seen) {
        feed.publish(change);
    }
    Ok(changes.last().map_or(seen, |(seq, _)| *seq))
}

async fn number(
    connection: &mut SqliteConnection,
    statement: &'static str,
    column: &'static str,
) -> Result<i64, sqlx::Error> {
    let row = connection.row(statement.into(), &[]).await?;
    let row = row.ok_or(sqlx::Error::RowNotFound)?;
    Ok(row.int(column)?.unwrap_or_default())
}
