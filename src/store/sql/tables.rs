use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use sqlx::AssertSqlSafe;
use tokio::time::Instant;

use super::background_task::BackgroundTask;
use super::batch::Outcome;
use super::columns::{self, millis};
#[cfg(feature = "sqlite")]
use super::database_file::DatabaseFile;
use super::failure::{Failure, before_deadline};
use super::file_check::FileCheck;
use super::filter::Listing;
use super::operation::{Operation, OperationResult};
use super::pool::{Access, Lease, Pool};
use super::publish::{self, PublishOnDrop};
use super::session::{Row, Session, Statement, Value};
use super::write;
use crate::digest::TokenDigest;
use crate::registry::{ListRequest, RegistryError, TokenFilter, TokenPage, Write};
use crate::store::{ChangeFeed, StoreError, TokenChange, TokenRecord};
use crate::token::TokenId;

/// The tables of either database; operations have a deadline and publish their changes.
#[derive(Clone)]
pub(super) struct Tables {
    pub(super) pool: Pool,
    pub(super) feed: ChangeFeed,
    pub(super) settings: Settings,
    pub(super) retention: Option<Arc<BackgroundTask>>,
    #[cfg(feature = "sqlite")]
    pub(super) file: Option<Arc<DatabaseFile>>,
}

/// What can be chosen for a store that is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) deadline: Duration,
    pub(super) keeps_audit_trail: bool,
    pub(super) effective_within: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(3),
            keeps_audit_trail: false,
            effective_within: Duration::from_secs(10),
        }
    }
}

/// For the operations that have begun, which wait for a lock up to 5 s in SQLite.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Last uses that are written by one transaction.
const USES_PER_TRANSACTION: usize = 1000;

impl Tables {
    pub(super) fn new(pool: Pool) -> Self {
        Self {
            pool,
            feed: ChangeFeed::default(),
            settings: Settings::default(),
            retention: None,
            #[cfg(feature = "sqlite")]
            file: None,
        }
    }

    /// Closes all connections. Every call fails from now on.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        if let Some(retention) = &self.retention {
            retention.stop().await;
        }
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        #[cfg(feature = "sqlite")]
        let checkpointed = before_deadline(deadline, self.checkpoint()).await;
        before_deadline(deadline, self.pool.close()).await?;
        #[cfg(feature = "sqlite")]
        {
            checkpointed??;
            before_deadline(deadline, self.remove_wal()).await??;
        }
        Ok(())
    }

    pub(super) async fn find(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        let digest = [Value::Bytes(Some(digest.as_bytes()))];
        let deadline = self.deadline();
        // Asking for both at once costs every lookup half as much again in PostgreSQL.
        let current = self.record(deadline, write::FIND_CURRENT, &digest).await?;
        match current {
            Some(record) => Ok(Some(record)),
            None => self.record(deadline, write::FIND, &digest).await,
        }
    }

    pub(super) async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        let id = [Value::Int(Some(id.as_i64()))];
        self.record(self.deadline(), write::GET, &id).await
    }

    pub(super) async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
        let listing = Listing::of(request, self.pool.has_row_statistics());
        if !self.pool.can_match(&listing.values()) {
            return Ok(request.page(Vec::new()));
        }
        let statement = || Statement::unprepared(AssertSqlSafe(listing.text("")));
        let rows = self.read(statement, &listing.values()).await?;
        let records = rows.iter().map(columns::decode).collect::<Result<_, _>>();
        Ok(request.page(records.map_err(Failure::from)?))
    }

    pub(super) async fn explain(
        &self,
        request: Option<&ListRequest>,
        prefix: &str,
        column: usize,
    ) -> Result<String, StoreError> {
        let listing = request.map(|request| Listing::of(request, self.pool.has_row_statistics()));
        let (sql, values) = match &listing {
            Some(listing) => (listing.text(prefix), listing.values()),
            None => (
                format!("{prefix}{}", write::FIND),
                vec![Value::Bytes(Some(&[0; 32]))],
            ),
        };
        let statement = || Statement::unprepared(AssertSqlSafe(sql.clone()));
        let rows = self.read(statement, &values).await?;
        let lines = rows
            .iter()
            .map(|row| row.text(column).map(Option::unwrap_or_default))
            .collect::<Result<Vec<_>, _>>();
        Ok(lines.map_err(Failure::from)?.join("\n"))
    }

    pub(super) async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        self.change(Operation::Insert(write)).await?;
        Ok(())
    }

    pub(super) async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        let mut outcomes = self.change(Operation::Update(write)).await?.outcomes;
        after(outcomes.pop().expect("one outcome for one write"))
    }

    /// The updates are one transaction, so that a failure of the database fails all of them.
    pub(super) async fn update_many(
        &self,
        writes: &[Write],
    ) -> Vec<Result<TokenRecord, RegistryError>> {
        if writes.is_empty() {
            return Vec::new();
        }
        match self.change(Operation::UpdateMany(writes)).await {
            Ok(changed) => changed.outcomes.into_iter().map(after).collect(),
            Err(failure) => {
                let error = StoreError::from(failure);
                let failed = || Err(RegistryError::Store(error.clone()));
                writes.iter().map(|_| failed()).collect()
            }
        }
    }

    pub(super) async fn count(
        &self,
        filter: &TokenFilter,
        now: SystemTime,
    ) -> Result<u64, StoreError> {
        let request = ListRequest::new(filter.clone(), now);
        let listing = Listing::count(&request, self.pool.has_row_statistics());
        if !self.pool.can_match(&listing.values()) {
            return Ok(0);
        }
        let statement = || Statement::unprepared(AssertSqlSafe(listing.text("")));
        let rows = self.read(statement, &listing.values()).await?;
        let count = rows.first().map_or(Ok(None), |row| row.int(0));
        let count = count.map_err(Failure::from)?.unwrap_or_default();
        Ok(count.cast_unsigned())
    }

    pub(super) async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        self.change(Operation::Delete(write)).await?;
        Ok(())
    }

    pub(super) async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        for uses in uses.chunks(USES_PER_TRANSACTION) {
            let uses: Vec<[i64; 2]> = uses
                .iter()
                .map(|(id, at)| [id.as_i64(), millis(*at)])
                .collect();
            let uses = serde_json::to_string(&uses).expect("numbers make JSON");
            self.change(Operation::Touch(&uses)).await?;
        }
        Ok(())
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.settings.deadline
    }

    async fn record(
        &self,
        deadline: Instant,
        statement: &'static str,
        values: &[Value<'_>],
    ) -> Result<Option<TokenRecord>, StoreError> {
        let rows = self
            .read_by(deadline, || Statement::single_row(statement), values)
            .await?;
        let record = rows.first().map(columns::decode).transpose();
        Ok(record.map_err(Failure::from)?)
    }

    pub(super) async fn read(
        &self,
        statement: impl Fn() -> Statement + Send + Sync,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Failure> {
        self.read_by(self.deadline(), statement, values).await
    }

    /// Retries on another connection if this one failed.
    async fn read_by(
        &self,
        deadline: Instant,
        statement: impl Fn() -> Statement + Send + Sync,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Failure> {
        self.check_file(FileCheck::AtInterval)?;
        let mut retries = self.pool.retries();
        loop {
            let mut lease = self.pool.lease(Access::Read, deadline).await?;
            let rows = before_deadline(deadline, async {
                lease.session().rows(statement(), values).await
            });
            let failure = match rows.await {
                Ok(Ok(rows)) => return Ok(rows),
                Ok(Err(error)) => Failure::from(error).before_commit(),
                Err(timed_out) => timed_out,
            };
            let handled = self
                .pool
                .handle_fault(&mut lease, failure.fault(), deadline);
            if !handled.await || retries == 0 || !matches!(failure, Failure::Retryable(_)) {
                return Err(failure);
            }
            retries -= 1;
        }
    }

    pub(super) async fn change(
        &self,
        operation: Operation<'_>,
    ) -> Result<OperationResult, Failure> {
        let deadline = self.deadline();
        let mut retries = self.pool.retries();
        loop {
            let mut lease = self.pool.lease(Access::Write, deadline).await?;
            let is_committing = AtomicBool::new(false);
            let change = self.try_change(&mut lease, deadline, operation, &is_committing);
            let failure = match before_deadline(deadline, change).await {
                Ok(Ok(changed)) => return Ok(changed),
                Ok(Err(failure)) => failure,
                Err(_) if is_committing.load(Ordering::Relaxed) => Failure::CommitTimedOut,
                Err(timed_out) => timed_out,
            };
            let handled = self
                .pool
                .handle_fault(&mut lease, failure.fault(), deadline);
            let may_retry = handled.await;
            #[cfg(feature = "sqlite")]
            if matches!(&failure, Failure::Retryable(error) if self.has_broken_transaction(error)) {
                lease.close();
            }
            if !may_retry || retries == 0 || !matches!(failure, Failure::Retryable(_)) {
                return Err(failure);
            }
            retries -= 1;
        }
    }

    async fn try_change(
        &self,
        lease: &mut Lease,
        deadline: Instant,
        operation: Operation<'_>,
        is_committing: &AtomicBool,
    ) -> Result<OperationResult, Failure> {
        self.check_file(FileCheck::Now)?;
        let bound = deadline.saturating_duration_since(Instant::now());
        let begun = lease.begin(bound).await;
        let mut transaction = begun.map_err(|error| self.begin_failure(error))?;
        let written = self.write(&mut transaction.session(), operation).await;
        let (done, changes) = written.map_err(Failure::before_commit)?;
        // Until the answer to the commit arrives, its outcome is unknown. The changes are published
        // in any case.
        let _publish = PublishOnDrop::new(&self.feed, changes);
        is_committing.store(true, Ordering::Relaxed);
        transaction.commit().await.map_err(Failure::of_commit)?;
        // What was committed to a file that has no name any more is lost.
        self.check_file(FileCheck::Now)?;
        Ok(done)
    }

    async fn write(
        &self,
        session: &mut Session<'_>,
        operation: Operation<'_>,
    ) -> Result<(OperationResult, Vec<TokenChange>), Failure> {
        let done = operation.run(session).await?;
        let keeps_audit_log = self.settings.keeps_audit_trail;
        let changes =
            publish::record(session, operation.writes(), &done.outcomes, keeps_audit_log).await?;
        Ok((done, changes))
    }
}

fn after(outcome: Outcome) -> Result<TokenRecord, RegistryError> {
    Ok(outcome?.after.expect("an update leaves a record"))
}
