use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::Transaction;
use tokio::time::Instant;

use super::backend::{Access, Backend, ConnectionOf};
use super::background_task::BackgroundTask;
use super::change::{Change, OperationResult};
use super::dialect::Dialect;
use super::failure::{Failure, before_deadline};
use super::feed_tracker::FeedTracker;
use super::open_error::OpenStoreError;
use super::schema;
use super::session::{Driver, Session, Statement, Value};
use crate::store::{ChangeFeed, ChangeListener, FeedStatus, StoreError, TokenChange};

/// How long operations in progress may take when a store is closed. SQLite waits for a lock for up
/// to 5 s.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) type RowOf<B> = <ConnectionOf<B> as Driver>::Row;

/// A store over either database. Operations have a deadline; changes are published.
#[derive(Clone)]
pub(super) struct SqlStore<B> {
    pub(super) backend: B,
    feed: ChangeFeed,
    watch: Arc<Watch>,
    pub(super) retention: Option<Arc<BackgroundTask>>,
    deadline: Duration,
    pub(super) keeps_audit_trail: bool,
    pub(super) effective_within: Duration,
}

/// Receives the changes of other processes.
struct Watch {
    operation: BackgroundTask,
    status: Arc<FeedTracker>,
}

impl<B: Backend> SqlStore<B> {
    pub(super) const DEFAULT_DEADLINE: Duration = Duration::from_secs(3);

    pub(super) const DIALECT: Dialect = <ConnectionOf<B> as Session>::DIALECT;

    /// Creates the tables, or migrates them to this release's version.
    pub(super) async fn open(backend: B) -> Result<Self, OpenStoreError> {
        schema::migrate(&backend).await?;
        Ok(Self {
            backend,
            feed: ChangeFeed::default(),
            watch: Arc::new(Watch {
                operation: BackgroundTask::new(),
                status: Arc::new(FeedTracker::new()),
            }),
            retention: None,
            deadline: Self::DEFAULT_DEADLINE,
            keeps_audit_trail: false,
            effective_within: Duration::from_secs(10),
        })
    }

    pub(super) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
        self.backend.set_deadline(deadline);
    }

    pub(super) fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.feed.subscribe(listener);
        let Watch { operation, status } = &*self.watch;
        if let Some(watch) = self.backend.watch(self.feed.clone(), Arc::clone(status)) {
            operation.start(|| {
                status.set_connecting();
                watch
            });
        }
    }

    pub(super) fn feed_status(&self) -> FeedStatus {
        self.watch.status.state()
    }

    /// Ends the tasks of the store and closes all connections.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        self.watch.operation.stop().await;
        self.watch.status.set_not_used();
        if let Some(retention) = &self.retention {
            retention.stop().await;
        }
        Ok(self.backend.close(Instant::now() + CLOSE_TIMEOUT).await?)
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// Returns the first row of a statement.
    pub(super) async fn row(
        &self,
        statement: &'static str,
        values: &[Value<'_>],
        deadline: Instant,
    ) -> Result<Option<RowOf<B>>, Failure> {
        self.read(deadline, |lease| lease.row(statement.into(), values))
            .await
    }

    /// Returns the rows of a statement.
    pub(super) async fn rows(
        &self,
        statement: Statement,
        values: &[Value<'_>],
    ) -> Result<Vec<RowOf<B>>, Failure> {
        let read = self.read(self.deadline(), |lease| {
            lease.rows(statement.clone(), values)
        });
        read.await
    }

    /// Reads on a connection. Retries if the connection failed.
    async fn read<T>(
        &self,
        deadline: Instant,
        read: impl for<'c> Fn(&'c mut B::Lease) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + Sync,
    ) -> Result<T, Failure> {
        self.backend.check(Access::Read)?;
        let mut retries = self.backend.max_retries();
        loop {
            let mut lease = self.acquire(Access::Read, deadline).await?;
            let failure = match before_deadline(deadline, read(&mut lease)).await {
                Ok(Ok(rows)) => return Ok(rows),
                Ok(Err(error)) => Failure::from(error).before_commit(),
                Err(timed_out) => timed_out,
            };
            self.retry(&mut lease, failure, deadline, &mut retries)
                .await?;
        }
    }

    /// Makes a change in a transaction. Retries if the connection failed before the commit.
    pub(super) async fn change(&self, change: Change<'_>) -> Result<OperationResult, Failure> {
        let deadline = self.deadline();
        let mut retries = self.backend.max_retries();
        loop {
            let mut lease = self.acquire(Access::Write, deadline).await?;
            let failure = match self.try_change(&mut lease, deadline, change).await {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            self.retry(&mut lease, failure, deadline, &mut retries)
                .await?;
        }
    }

    async fn acquire(&self, access: Access, deadline: Instant) -> Result<B::Lease, Failure> {
        match before_deadline(deadline, self.backend.acquire(access)).await {
            Ok(lease) => Ok(lease?),
            // Other operations still use the connections.
            Err(_) => Err(Failure::AcquireTimedOut),
        }
    }

    /// Returns the failure unless another attempt may succeed.
    async fn retry(
        &self,
        lease: &mut B::Lease,
        failure: Failure,
        deadline: Instant,
        retries: &mut u32,
    ) -> Result<(), Failure> {
        let handled = self.backend.handle_fault(lease, failure.fault(), deadline);
        let may_succeed = handled.await && matches!(failure, Failure::Retryable(_));
        *retries = match retries.checked_sub(1) {
            Some(retries) if may_succeed => retries,
            _ => return Err(failure),
        };
        Ok(())
    }

    async fn try_change(
        &self,
        lease: &mut B::Lease,
        deadline: Instant,
        change: Change<'_>,
    ) -> Result<OperationResult, Failure> {
        let written = before_deadline(deadline, self.write(lease, deadline, change));
        let written = written.await?.map_err(Failure::before_commit);
        let (transaction, done, changes) = written?;
        // Until the commit is answered its outcome is unknown, so the changes are published in any
        // case.
        let _publication = Publication {
            feed: &self.feed,
            changes,
        };
        let committed = before_deadline(deadline, transaction.commit()).await;
        let committed = committed.map_err(|_| Failure::CommitTimedOut)?;
        committed.map_err(Failure::of_commit)?;
        // A commit to a file that was unlinked meanwhile is lost.
        self.backend.check(Access::Write)?;
        Ok(done)
    }

    /// Makes a change in a transaction that remains to be committed.
    async fn write<'l>(
        &self,
        lease: &'l mut B::Lease,
        deadline: Instant,
        change: Change<'_>,
    ) -> Result<
        (
            Transaction<'l, B::Database>,
            OperationResult,
            Vec<TokenChange>,
        ),
        Failure,
    > {
        self.backend.check(Access::Write)?;
        let limit = deadline.saturating_duration_since(Instant::now());
        // A statement that waits for a lock ends before the deadline.
        let mut transaction = B::begin(lease, limit, (limit / 10).saturating_mul(9)).await?;
        let done = change.run(&mut *transaction).await?;
        let recorded = change.record(&mut *transaction, &done.outcomes, self.keeps_audit_trail);
        let changes = recorded.await?;
        Ok((transaction, done, changes))
    }
}

/// Publishes changes when dropped, even if the caller stopped waiting for the commit.
struct Publication<'a> {
    feed: &'a ChangeFeed,
    changes: Vec<TokenChange>,
}

impl Drop for Publication<'_> {
    fn drop(&mut self) {
        for change in &self.changes {
            self.feed.publish(change);
        }
    }
}
