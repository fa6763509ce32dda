use std::ops::DerefMut;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::{Connection, Database, SqlStr, Transaction};
use tokio::time::Instant;

use super::failure::{Failure, Fault};
use super::feed_tracker::FeedTracker;
use super::session::Session;
use crate::store::StoreError;

/// What a connection is acquired for.
#[derive(Clone, Copy)]
pub(super) enum Access {
    Read,
    Write,
}

/// A database engine and its connections.
pub(super) trait Backend: Clone + Send + Sync + 'static {
    type Database: Database<Connection: Session>;
    /// A connection that returns to its pool when dropped.
    type Lease: DerefMut<Target = ConnectionOf<Self>> + Send;

    /// Acquires a connection.
    fn acquire(&self, access: Access) -> BoxFuture<'_, Result<Self::Lease, sqlx::Error>>;

    /// Returns the statement that begins a transaction of changes. A server ends the transaction
    /// by itself after these limits, whether or not this process is still running.
    fn begin_statement(limit: Duration, lock_limit: Duration) -> SqlStr;

    /// Begins a transaction, which is rolled back when dropped.
    fn begin(
        lease: &mut Self::Lease,
        limit: Duration,
        lock_limit: Duration,
    ) -> BoxFuture<'_, Result<Transaction<'_, Self::Database>, sqlx::Error>> {
        Box::pin(lease.begin_with(Self::begin_statement(limit, lock_limit)))
    }

    /// Closes a connection that is no longer usable, and others that failed for the same reason
    /// before they are used again. Returns whether another connection may succeed.
    fn handle_fault<'a>(
        &'a self,
        lease: &'a mut Self::Lease,
        fault: Fault,
        deadline: Instant,
    ) -> BoxFuture<'a, bool>;

    /// Returns how often an operation is retried on another connection.
    fn max_retries(&self) -> u32;

    /// Returns an error if the database is no longer the one that was opened.
    fn check(&self, access: Access) -> Result<(), StoreError> {
        let _ = access;
        Ok(())
    }

    /// Applies the deadline of a store to the connections.
    fn set_deadline(&self, deadline: Duration) {
        let _ = deadline;
    }

    /// Publishes the changes of other processes until dropped. Returns `None` if no other process
    /// can change anything.
    fn watch(&self, feed: Arc<FeedTracker>) -> Option<BoxFuture<'static, ()>>;

    fn is_closed(&self) -> bool;

    /// Waits for the connections in use and closes all.
    fn close(&self, deadline: Instant) -> BoxFuture<'_, Result<(), Failure>>;
}

pub(super) type ConnectionOf<B> = <<B as Backend>::Database as Database>::Connection;
