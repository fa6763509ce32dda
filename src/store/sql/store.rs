use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::backend::{Access, Backend, ConnectionOf};
use super::background_task::BackgroundTask;
use super::change::{Change, OperationResult};
use super::failure::{Failure, before_deadline};
use super::feed_tracker::FeedTracker;
use super::open_error::OpenStoreError;
use super::schema;
use super::session::{Dialect, Driver, Session, Statement, Value};
use crate::digest::TokenDigest;
use crate::store::{
    ChangeListener, Credential, FeedStatus, StoreError, TokenChange, TokenRecord, TokenStore,
};
use crate::token::TokenId;

/// How long operations in progress may take when a store is closed. SQLite waits for a lock for up
/// to 5 s.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) type RowOf<B> = <ConnectionOf<B> as Driver>::Row;

/// Stores tokens in a SQL database.
///
/// Use it as [`SqliteStore`](super::SqliteStore) or [`PostgresStore`](super::PostgresStore), whose
/// pages describe their databases.
#[derive(Clone)]
pub struct SqlStore<B> {
    pub(super) backend: B,
    feed: Arc<FeedTracker>,
    /// Receives the changes of other processes.
    watch: Arc<BackgroundTask>,
    pub(super) retention: Option<Arc<BackgroundTask>>,
    deadline: Duration,
    keeps_audit_trail: bool,
    pub(super) effective_within: Duration,
}

impl<B> fmt::Debug for SqlStore<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore").finish_non_exhaustive()
    }
}

impl<B: Backend> SqlStore<B> {
    pub(super) const DEFAULT_DEADLINE: Duration = Duration::from_secs(3);

    pub(super) const DIALECT: Dialect = <ConnectionOf<B> as Session>::DIALECT;

    /// Creates the tables, or migrates them to this release's version.
    pub(super) async fn with_backend(backend: B) -> Result<Self, OpenStoreError> {
        schema::migrate(&backend).await?;
        Ok(Self {
            backend,
            feed: Arc::new(FeedTracker::new()),
            watch: Arc::new(BackgroundTask::new()),
            retention: None,
            deadline: Self::DEFAULT_DEADLINE,
            keeps_audit_trail: false,
            effective_within: Duration::from_secs(10),
        })
    }

    /// Sets how long an operation may take, including the wait for a connection. The default is 3 s.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self.backend.set_deadline(deadline);
        self
    }

    /// Keeps an audit trail. Each event is part of the transaction of its change. Off by default.
    pub fn keep_audit_trail(mut self) -> Self {
        self.keeps_audit_trail = true;
        self
    }

    /// Sets the value of [`effective_within`](crate::registry::TokenRegistry::effective_within): for
    /// how long caches in other processes may serve an old record. The default is 10 s, which is the
    /// default TTL of [`CachedStore`](crate::store::CachedStore).
    pub fn with_effective_within(mut self, bound: Duration) -> Self {
        self.effective_within = bound;
        self
    }

    /// Closes the store and all its clones: ends its tasks, waits for operations in progress, and
    /// closes every connection, including those of your own pool. Every later call fails as
    /// unavailable.
    ///
    /// [Stop](crate::registry::FlushTask::stop) the flushing of last uses first, or the latest are
    /// lost.
    ///
    /// # Errors
    ///
    /// Returns an error if the operations in progress take longer than 10 s.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.watch.stop().await;
        self.feed.set_status(FeedStatus::NotUsed);
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
            let mut lease = None;
            // One timer for both, because a lookup that hits no cache makes one for each.
            let attempt = before_deadline(deadline, async {
                let lease = lease.insert(self.backend.acquire(Access::Read).await?);
                read(lease).await
            });
            let outcome = attempt.await;
            let failure = match (outcome, &mut lease) {
                (Ok(Ok(rows)), _) => return Ok(rows),
                (Ok(Err(error)), None) => return Err(error.into()),
                // Other operations still use the connections.
                (Err(_), None) => return Err(Failure::AcquireTimedOut),
                (Ok(Err(error)), Some(_)) => Failure::from(error).before_commit(),
                (Err(timed_out), Some(_)) => timed_out,
            };
            if let Some(lease) = &mut lease {
                self.retry(lease, failure, deadline, &mut retries).await?;
            }
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
        let written = before_deadline(deadline, async {
            self.backend.check(Access::Write)?;
            let limit = deadline.saturating_duration_since(Instant::now());
            // A statement that waits for a lock ends before the deadline.
            let mut transaction = B::begin(lease, limit, (limit / 10).saturating_mul(9)).await?;
            let done = change.run(&mut *transaction).await?;
            let recorded = change.record(&mut *transaction, &done.outcomes, self.keeps_audit_trail);
            let changes = recorded.await?;
            Ok((transaction, done, changes))
        });
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
}

#[async_trait]
impl<B: Backend> TokenStore for SqlStore<B> {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.look_up(credential.digest()).await
    }

    async fn find_again(
        &self,
        _: TokenId,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.look_up(digest).await
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.feed.subscribe(listener);
        if let Some(watch) = self.backend.watch(Arc::clone(&self.feed)) {
            self.watch.start(|| {
                // Until the first connection, and without a log line.
                self.feed.set_status(FeedStatus::Lost);
                watch
            });
        }
    }

    fn feed_status(&self) -> FeedStatus {
        self.feed.status()
    }
}

/// Publishes changes when dropped, even if the caller stopped waiting for the commit.
struct Publication<'a> {
    feed: &'a FeedTracker,
    changes: Vec<TokenChange>,
}

impl Drop for Publication<'_> {
    fn drop(&mut self) {
        for change in &self.changes {
            self.feed.publish(change);
        }
    }
}
