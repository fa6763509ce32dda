use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;

use super::backend::Backend;
use super::change::Change;
use super::columns::millis;
use super::failure::Failure;
use super::open_error::OpenStoreError;
use super::schema;
use super::session::{NamedColumns, Value};
use super::store::SqlStore;
use crate::clock::UnixMillis;
use crate::digest::TokenDigest;
use crate::principal::RightsDigest;
use crate::store::StoreError;
use crate::ticket_store::{InsertTicketError, StoredTicket, TicketLimits, TicketStore};
use crate::token::TokenId;

/// Counts before it inserts. Concurrent inserts may exceed a limit by one each.
const INSERT: &str = "INSERT INTO service_token_stream_tickets \
     (digest, token_id, token_digest, owner, rights, expires_at) SELECT $1, $2, $3, $4, $5, $6 \
     WHERE (SELECT COUNT(*) FROM service_token_stream_tickets \
        WHERE token_id = $2 AND expires_at > $7) < $8 \
     AND ($4 IS NULL OR (SELECT COUNT(*) FROM service_token_stream_tickets \
        WHERE owner = $4 AND expires_at > $7) < $9) \
     AND (SELECT COUNT(*) FROM service_token_stream_tickets WHERE expires_at > $7) < $10 \
     RETURNING token_id";

/// Counts after an insertion that exceeds a limit, for the error.
const COUNT: &str = "SELECT \
     (SELECT COUNT(*) FROM service_token_stream_tickets \
        WHERE token_id = $1 AND expires_at > $3) AS of_token, \
     (SELECT COUNT(*) FROM service_token_stream_tickets \
        WHERE owner = $2 AND expires_at > $3) AS of_owner";

const FIND: &str = "SELECT token_id, token_digest, owner, rights, expires_at \
     FROM service_token_stream_tickets WHERE digest = $1";

/// Only one of several concurrent statements returns the row.
const TAKE: &str = "DELETE FROM service_token_stream_tickets WHERE digest = $1 RETURNING token_id";

const PRUNE: &str = "DELETE FROM service_token_stream_tickets WHERE digest IN \
     (SELECT digest FROM service_token_stream_tickets WHERE expires_at <= $1 LIMIT $2) \
     RETURNING token_id";

/// How many expired tickets one insertion deletes at most. More are deleted by the next ones.
const PRUNE_LIMIT: usize = 1_000;

/// Between two deletions of expired tickets, in milliseconds.
const PRUNE_INTERVAL: i64 = 10_000;

/// Stores tickets for streams in the database of a [`SqlStore`], so that several processes accept
/// each other's tickets, each of them once.
///
/// Created by [`SqlStore::ticket_store`], whose connections it uses. To share it, wrap it in an
/// [`Arc`](std::sync::Arc), which is a store as well.
#[must_use]
pub struct SqlTicketStore<B> {
    store: SqlStore<B>,
    limits: TicketLimits,
    next_prune: AtomicI64,
}

impl<B: Backend> SqlStore<B> {
    /// Creates a store of [tickets](crate::streams) in the same database. It creates the table
    /// `service_token_stream_tickets` unless that exists.
    ///
    /// A role that may not create tables needs one that exists, by the script
    /// `src/store/sql/schema/postgres_tickets.sql`, and:
    ///
    /// ```sql
    /// GRANT SELECT, INSERT, DELETE ON service_token_stream_tickets TO service;
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the table does not exist and cannot be created.
    pub async fn ticket_store(&self) -> Result<SqlTicketStore<B>, OpenStoreError> {
        schema::create_tickets(&self.backend).await?;
        Ok(SqlTicketStore {
            store: self.clone(),
            limits: TicketLimits::default(),
            next_prune: AtomicI64::default(),
        })
    }
}

impl<B: Backend> SqlTicketStore<B> {
    /// Sets the largest numbers of unused tickets. The tickets of all processes count. Set the same limits
    /// in each of them. See [`TicketLimits`] for the defaults.
    pub fn with_limits(mut self, limits: TicketLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Returns which limit an insertion exceeded. If tickets were taken since, it is the one in total.
    async fn exceeded(
        &self,
        ticket: &StoredTicket,
        now: i64,
    ) -> Result<InsertTicketError, Failure> {
        let values = [
            ticket.token_id.as_i64().into(),
            ticket.owner.as_deref().into(),
            now.into(),
        ];
        let counts = self
            .store
            .row(COUNT, &values, self.store.deadline())
            .await?;
        let count = |column| match &counts {
            Some(counts) => counts.int(column),
            None => Ok(None),
        };
        let exceeds = |count: Option<i64>, limit| count.is_some_and(|it| it >= to_i64(limit));
        Ok(if exceeds(count("of_token")?, self.limits.per_token()) {
            InsertTicketError::TooManyPerToken
        } else if ticket.owner.is_some() && exceeds(count("of_owner")?, self.limits.per_owner()) {
            InsertTicketError::TooManyPerOwner
        } else {
            InsertTicketError::TooManyInTotal
        })
    }

    /// Deletes expired tickets if that was not done lately.
    async fn prune(&self, now: i64) -> Result<(), Failure> {
        let next = now.saturating_add(PRUNE_INTERVAL);
        let is_due = self
            .next_prune
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
                (now >= due).then_some(next)
            });
        if is_due.is_ok() {
            let values = [now.into(), to_i64(PRUNE_LIMIT).into()];
            let deleted = self.store.change(Change::Execute(PRUNE, &values)).await?;
            if deleted.rows == PRUNE_LIMIT {
                self.next_prune.store(now, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl<B: Backend> TicketStore for SqlTicketStore<B> {
    async fn insert(
        &self,
        ticket: &StoredTicket,
        now: SystemTime,
    ) -> Result<(), InsertTicketError> {
        let now = millis(now);
        self.prune(now).await.map_err(StoreError::from)?;
        let values = [
            Value::Bytes(Some(ticket.digest.as_bytes())),
            ticket.token_id.as_i64().into(),
            Value::Bytes(Some(ticket.token_digest.as_bytes())),
            ticket.owner.as_deref().into(),
            Value::Bytes(Some(ticket.rights.as_bytes())),
            millis(ticket.expires_at).into(),
            now.into(),
            to_i64(self.limits.per_token()).into(),
            to_i64(self.limits.per_owner()).into(),
            to_i64(self.limits.total()).into(),
        ];
        let inserted = self.store.change(Change::Execute(INSERT, &values)).await;
        match inserted.map_err(StoreError::from)?.rows {
            0 => Err(self.exceeded(ticket, now).await.map_err(StoreError::from)?),
            _ => Ok(()),
        }
    }

    async fn take(&self, digest: &TokenDigest) -> Result<Option<StoredTicket>, StoreError> {
        let key = [Value::Bytes(Some(digest.as_bytes()))];
        let row = self.store.row(FIND, &key, self.store.deadline()).await?;
        let Some(row) = row else { return Ok(None) };
        let ticket = read(*digest, &row).map_err(Failure::from)?;
        let ticket = ticket.ok_or_else(|| StoreError::corrupt("a ticket has an invalid column"))?;
        let taken = self.store.change(Change::Execute(TAKE, &key)).await?;
        Ok((taken.rows == 1).then_some(ticket))
    }
}

fn read(digest: TokenDigest, row: &impl NamedColumns) -> Result<Option<StoredTicket>, sqlx::Error> {
    let bytes = |column| -> Result<Option<[u8; 32]>, sqlx::Error> {
        Ok(row.bytes(column)?.and_then(|bytes| bytes.try_into().ok()))
    };
    let id = row.int("token_id")?.and_then(TokenId::from_i64);
    let (token_digest, rights) = (bytes("token_digest")?, bytes("rights")?);
    let expires_at = row.int("expires_at")?.map(UnixMillis::from_millis);
    let owner = row.text("owner")?;
    let parts = id.zip(token_digest).zip(rights).zip(expires_at);
    Ok(parts.map(
        |(((token_id, token_digest), rights), expires_at)| StoredTicket {
            digest,
            token_id,
            token_digest: TokenDigest::from_bytes(token_digest),
            owner: owner.map(str::to_owned),
            rights: RightsDigest::from_bytes(rights),
            expires_at: expires_at.into(),
        },
    ))
}

fn to_i64(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl<B> fmt::Debug for SqlTicketStore<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlTicketStore")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
