use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::audit_trail;
use super::backend::Backend;
use super::background_task::BackgroundTask;
use super::batch::Outcome;
use super::change::Change;
use super::columns::{self, DecodeError, columns, json, millis};
use super::failure::Failure;
use super::json_row::JsonRow;
use super::list_query::ListQuery;
use super::session::{Column, NamedColumns, Statement, Value};
use super::state::{self, StoreState};
use super::store::{RowOf, SqlStore};
use crate::audit::AuditEvent;
use crate::digest::TokenDigest;
use crate::registry::{ListRequest, RegistryError, TokenFilter, TokenPage, TokenRegistry, Write};
use crate::store::{StoreError, TokenRecord};
use crate::token::TokenId;

const GET: &str = concat!("SELECT ", columns!(), " FROM service_tokens WHERE id = $1");

const FIND_CURRENT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM service_tokens WHERE digest = $1"
);

/// One statement, because a rotation may replace the digest between two.
const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM service_tokens WHERE digest = $1 UNION ALL SELECT ",
    columns!(),
    " FROM service_tokens WHERE previous_digest = $1 LIMIT 1"
);

/// How many last uses one transaction writes.
const MAX_USES: usize = 1000;

/// How many events one call returns.
const MAX_EVENTS: usize = 1000;

/// How many events one transaction deletes.
const PRUNE_BATCH: u32 = 1000;

/// Between two batches, for other changes.
const PRUNE_PAUSE: Duration = Duration::from_millis(100);

const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

#[async_trait]
impl<B: Backend> TokenRegistry for SqlStore<B> {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        self.change(Change::Insert(write)).await?;
        Ok(())
    }

    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        self.record(GET, &[id.as_i64().into()], self.deadline())
            .await
    }

    async fn find_by_digest(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.look_up(digest).await
    }

    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
        let query = ListQuery::page(request, &Self::DIALECT);
        let rows = self.select(query).await?;
        let records = if Self::DIALECT.record_as_json.is_some() {
            rows.iter().map(decode_json).collect::<Result<_, _>>()
        } else {
            rows.iter().map(columns::decode).collect()
        };
        Ok(request.page(records.map_err(Failure::from)?))
    }

    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        let mut outcomes = self.change(Change::Update(write)).await?.outcomes;
        after(outcomes.pop().expect("one outcome for one write"))
    }

    /// Makes the updates in one transaction, so a failure of the database fails all of them.
    async fn update_many(&self, writes: &[Write]) -> Vec<Result<TokenRecord, RegistryError>> {
        if writes.is_empty() {
            return Vec::new();
        }
        match self.change(Change::UpdateMany(writes)).await {
            Ok(changed) => changed.outcomes.into_iter().map(after).collect(),
            Err(failure) => {
                let error = StoreError::from(failure);
                let failed = || Err(RegistryError::Store(error.clone()));
                writes.iter().map(|_| failed()).collect()
            }
        }
    }

    async fn count(&self, filter: &TokenFilter, now: SystemTime) -> Result<u64, StoreError> {
        let request = ListRequest::new(filter.clone(), now);
        let query = ListQuery::count(&request, Self::DIALECT.has_statistics);
        let rows = self.select(query).await?;
        let count = rows.first().map_or(Ok(None), |row| row.int("count"));
        let count = count.map_err(Failure::from)?.unwrap_or_default();
        Ok(count.cast_unsigned())
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        self.change(Change::Delete(write)).await?;
        Ok(())
    }

    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        for uses in uses.chunks(MAX_USES) {
            let uses = uses.iter().map(|(id, at)| (id.as_i64(), millis(*at)));
            let uses = [json(&uses.collect::<Vec<_>>()).into()];
            self.change(Change::Execute(Self::DIALECT.touch, &uses))
                .await?;
        }
        Ok(())
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        match self
            .change(Change::Execute(state::CHECK_WRITABLE, &[]))
            .await
        {
            Ok(changed) if changed.rows == 0 => Err(state::missing_row()),
            Ok(_) => Ok(()),
            Err(failure) if failure.is_permission_denied() => self.check_privilege().await,
            Err(failure) => Err(failure.into()),
        }
    }

    fn effective_within(&self) -> Duration {
        self.effective_within
    }
}

impl<B: Backend> SqlStore<B> {
    /// Deletes events of the audit trail that are older than this, once a minute, in a task that ends
    /// with the store. The default is to keep them forever.
    ///
    /// One transaction deletes up to 1,000 events, with a pause for other changes between two. Other
    /// processes on the same database have settings of their own: the shortest retention decides.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime.
    pub fn with_audit_retention(mut self, retention: Duration) -> Self {
        let task = BackgroundTask::new();
        // The task must not keep itself alive.
        self.retention = None;
        let store = self.clone();
        task.start(|| prune_at_interval(store, retention));
        self.retention = Some(Arc::new(task));
        self
    }

    /// Returns the latest events of the audit trail, or those of one token, newest first. At most
    /// 1,000.
    ///
    /// # Errors
    ///
    /// Returns an error if the store is unavailable.
    pub async fn audit_trail(
        &self,
        id: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<AuditEvent>, StoreError> {
        let limit = i64::try_from(limit.min(MAX_EVENTS)).unwrap_or(i64::MAX);
        let statement = match id {
            Some(_) => audit_trail::LATEST_OF_TOKEN,
            None => audit_trail::LATEST,
        };
        let id = id.map(|id| id.as_i64().into());
        let values: Vec<_> = [limit.into()].into_iter().chain(id).collect();
        let rows = self.rows(statement.into(), &values).await?;
        let events = rows.iter().map(audit_trail::read).collect::<Result<_, _>>();
        Ok(events.map_err(Failure::from)?)
    }

    /// Deletes the events of the audit trail before a time and returns how many there were.
    ///
    /// One transaction deletes up to 1,000 events, with a pause for other changes between two.
    ///
    /// # Errors
    ///
    /// Returns an error if the store is unavailable. Some of the events may be deleted.
    pub async fn prune_audit_trail(&self, before: SystemTime) -> Result<u64, StoreError> {
        let values = [millis(before).into(), i64::from(PRUNE_BATCH).into()];
        let prune = Change::Execute(Self::DIALECT.prune_events, &values);
        let mut deleted = 0;
        loop {
            let rows = self.change(prune).await?.rows;
            deleted += rows as u64;
            if rows < PRUNE_BATCH as usize {
                return Ok(deleted);
            }
            sleep(PRUNE_PAUSE).await;
        }
    }

    /// Returns the database's query plan for a listing, or for a lookup if `request` is `None`. Shows
    /// which index is used.
    ///
    /// # Errors
    ///
    /// Returns an error if the store is unavailable.
    pub async fn explain(&self, request: Option<&ListRequest>) -> Result<String, StoreError> {
        let (sql, values) = match request {
            Some(request) => ListQuery::page(request, &Self::DIALECT).into_parts(),
            None => (FIND.to_owned(), vec![Value::Bytes(Some(&[0; 32]))]),
        };
        let (prefix, column) = Self::DIALECT.explain;
        let statement = Statement::unprepared(format!("{prefix}{sql}"));
        let rows = self.rows(statement, &values).await?;
        let lines = rows
            .iter()
            .map(|row| row.text(column).map(Option::unwrap_or_default));
        let lines = lines.collect::<Result<Vec<_>, _>>();
        Ok(lines.map_err(Failure::from)?.join("\n"))
    }

    /// Returns what the store records about itself: its ID, and when it was initialized. Returns
    /// `None` if the database role may not read the table `service_token_store`.
    ///
    /// # Errors
    ///
    /// Returns an error if the store is unavailable.
    pub async fn state(&self) -> Result<Option<StoreState>, StoreError> {
        let row = match self.row(state::READ, &[], self.deadline()).await {
            Ok(row) => row,
            Err(failure) if failure.is_permission_denied() => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        let state = row.as_ref().map(StoreState::read).transpose();
        let state = state.map_err(Failure::from)?.flatten();
        state.map(Some).ok_or_else(state::missing_row)
    }

    /// Records that the store has had an administrator, unless that is already recorded. An
    /// application that creates the first administrator uses it to distinguish a new store from one
    /// that lost its tokens.
    ///
    /// # Errors
    ///
    /// Returns an error if the store is unavailable.
    pub async fn mark_initialized(&self, at: SystemTime) -> Result<(), StoreError> {
        let at = [millis(at).into()];
        self.change(Change::Execute(state::INITIALIZE, &at)).await?;
        Ok(())
    }

    /// Returns the record with this digest, current or previous.
    pub(super) async fn look_up(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        let digest = [Value::Bytes(Some(digest.as_bytes()))];
        let deadline = self.deadline();
        // One statement for both digests takes half as long again in PostgreSQL.
        match self.record(FIND_CURRENT, &digest, deadline).await? {
            Some(record) => Ok(Some(record)),
            None => self.record(FIND, &digest, deadline).await,
        }
    }

    async fn record(
        &self,
        statement: &'static str,
        values: &[Value<'_>],
        deadline: Instant,
    ) -> Result<Option<TokenRecord>, StoreError> {
        let row = self.row(statement, values, deadline).await?;
        let record = row.as_ref().map(columns::decode).transpose();
        Ok(record.map_err(Failure::from)?)
    }

    async fn select(&self, query: ListQuery<'_>) -> Result<Vec<RowOf<B>>, Failure> {
        if !query.is_satisfiable(Self::DIALECT.allows_nul) {
            return Ok(Vec::new());
        }
        let (sql, values) = query.into_parts();
        let statement = Statement::planned_for_values(sql, &Self::DIALECT);
        self.rows(statement, &values).await
    }

    /// Checks the privileges of a role that may not write the table of the state. PostgreSQL has
    /// found by then that the server is not read-only.
    async fn check_privilege(&self) -> Result<(), StoreError> {
        let may_update = match Self::DIALECT.has_privilege {
            Some(statement) => {
                let row = self.row(statement, &[], self.deadline()).await?;
                row.map_or(Ok(None), |row| row.int("may_update"))
            }
            None => Ok(None),
        };
        match may_update.map_err(Failure::from)? {
            Some(1) => Ok(()),
            _ => Err(StoreError::unavailable(
                "the database role may not change tokens (SQLSTATE 42501)",
            )),
        }
    }
}

fn after(outcome: Outcome) -> Result<TokenRecord, RegistryError> {
    Ok(outcome?.after.expect("an update returns a record"))
}

/// Deletes the events that are older than the retention until the store is closed.
async fn prune_at_interval<B: Backend>(store: SqlStore<B>, retention: Duration) {
    while !store.backend.is_closed() {
        let before = SystemTime::now().checked_sub(retention);
        if let Some(before) = before
            && let Err(error) = store.prune_audit_trail(before).await
        {
            log(&error);
        }
        sleep(PRUNE_INTERVAL).await;
    }
}

fn log(error: &StoreError) {
    #[cfg(not(feature = "tracing"))]
    let _ = error;
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: "tower_service_token",
        %error,
        source = std::error::Error::source(error).map(tracing::field::display),
        "cannot delete old audit events; trying again in {PRUNE_INTERVAL:?}",
    );
}

/// Reads a record whose row is one JSON array.
fn decode_json(row: &impl NamedColumns) -> Result<TokenRecord, DecodeError> {
    let json = row.bytes(Column::at(0, "record"))?.unwrap_or_default();
    columns::decode(&JsonRow::parse(json)?)
}
