use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePool};
use sqlx::{Connection, SqlStr};
use tokio::time::{Instant, sleep};

use super::change_watcher::ChangeWatcher;
use super::file::DatabaseFile;
use crate::store::StoreError;
use crate::store::sql::backend::{Access, Backend};
use crate::store::sql::failure::{Failure, Fault, before_deadline};
use crate::store::sql::feed_tracker::FeedTracker;
use crate::store::sql::session::Driver;

const CHECKPOINT: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// How often a remaining log is removed, with a pause for connections that are being closed.
const MAX_REMOVALS: u32 = 3;

const REMOVAL_RETRY_DELAY: Duration = Duration::from_millis(50);

/// The connections to a SQLite database.
#[derive(Clone)]
pub struct Sqlite {
    pub(super) readers: SqlitePool,
    /// SQLite has one writer at a time. Writers that queue for a connection wait less than writers
    /// that poll the lock.
    pub(super) writers: SqlitePool,
    /// The file of the database, if it has one.
    pub(super) file: Option<Arc<DatabaseFile>>,
    /// One connection that watches for changes. `None` if no other process can change anything.
    pub(super) watcher: Option<SqlitePool>,
    pub(super) watch_interval: Duration,
}

impl Sqlite {
    pub(super) const DEFAULT_WATCH_INTERVAL: Duration = Duration::from_millis(250);

    /// Creates a backend whose readers and writers share a pool.
    pub(super) fn over(
        pool: SqlitePool,
        file: Option<Arc<DatabaseFile>>,
        watcher: Option<SqlitePool>,
    ) -> Self {
        Self {
            readers: pool.clone(),
            writers: pool,
            file,
            watcher,
            watch_interval: Self::DEFAULT_WATCH_INTERVAL,
        }
    }

    /// Moves the log into the database file, so that the file is complete without it. While another
    /// process uses the database, the log may remain for that process to move.
    async fn checkpoint(&self) -> Result<(), Failure> {
        if self.file.is_none() || self.is_closed() {
            return Ok(());
        }
        let mut lease = self.writers.acquire().await?;
        lease.row(CHECKPOINT.into(), &[]).await?;
        Ok(())
    }

    async fn close_pools(&self) {
        let pools = [
            self.watcher.as_ref(),
            Some(&self.readers),
            Some(&self.writers),
        ];
        // All pools refuse connections from now on.
        let closing: Vec<_> = pools.into_iter().flatten().map(SqlitePool::close).collect();
        for pool in closing {
            pool.await;
        }
    }

    /// Opens and closes a closed database again while its log remains: connections that close at the
    /// same time leave the log to each other. Another process may still need it.
    async fn remove_wal(&self) -> Result<(), Failure> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        for _ in 0..MAX_REMOVALS {
            if !file.has_wal() {
                break;
            }
            let options = SqliteConnectOptions::new()
                .filename(file.path())
                .create_if_missing(false);
            let mut connection = SqliteConnection::connect_with(&options).await?;
            let moved = connection.row(CHECKPOINT.into(), &[]).await;
            connection.close().await?;
            moved?;
            sleep(REMOVAL_RETRY_DELAY).await;
        }
        Ok(())
    }
}

impl Backend for Sqlite {
    type Database = sqlx::Sqlite;
    type Lease = PoolConnection<sqlx::Sqlite>;

    fn acquire(&self, access: Access) -> BoxFuture<'_, Result<Self::Lease, sqlx::Error>> {
        match access {
            Access::Read => Box::pin(self.readers.acquire()),
            Access::Write => Box::pin(self.writers.acquire()),
        }
    }

    fn begin_statement(_: Duration, _: Duration) -> SqlStr {
        SqlStr::from_static("BEGIN IMMEDIATE")
    }

    /// Keeps connections, as there is no server that could fail.
    fn handle_fault<'a>(
        &'a self,
        lease: &'a mut Self::Lease,
        fault: Fault,
        _: Instant,
    ) -> BoxFuture<'a, bool> {
        // The connection of a database in memory is the database.
        let is_closable = self.file.is_some();
        if fault == Fault::Transaction && is_closable {
            lease.close_on_drop();
        }
        Box::pin(ready(fault != Fault::Transaction || is_closable))
    }

    fn max_retries(&self) -> u32 {
        self.readers.size() + 1
    }

    fn check(&self, access: Access) -> Result<(), StoreError> {
        match &self.file {
            // The log of a closed database may be gone.
            Some(file) if !self.is_closed() => match access {
                Access::Read => file.check_at_interval(),
                Access::Write => file.check(),
            },
            _ => Ok(()),
        }
    }

    fn watch(&self, feed: Arc<FeedTracker>) -> Option<BoxFuture<'static, ()>> {
        let watch = ChangeWatcher {
            pool: self.watcher.clone()?,
            file: self.file.clone(),
            feed,
            interval: self.watch_interval,
        };
        Some(Box::pin(watch.run()))
    }

    fn is_closed(&self) -> bool {
        self.writers.is_closed()
    }

    /// Leaves one complete file.
    fn close(&self, deadline: Instant) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let completed = before_deadline(deadline, self.checkpoint()).await;
            before_deadline(deadline, self.close_pools()).await?;
            completed??;
            before_deadline(deadline, self.remove_wal()).await?
        })
    }
}
