use std::fmt;
use std::sync::Arc;
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
use crate::store::StoreError;
use crate::ticket_store::{InsertTicketError, StoredTicket, TicketLimits, TicketStore};
use crate::token::TokenId;

/// Counts before it inserts. Concurrent inserts may exceed a limit by one each.
const INSERT: &str = "INSERT INTO service_token_tickets \
     (digest, token_id, token_digest, rights, expires_at) SELECT $1, $2, $3, $4, $5 \
     WHERE (SELECT COUNT(*) FROM service_token_tickets WHERE token_id = $2 AND expires_at > $6) < $7 \
     AND (SELECT COUNT(*) FROM service_token_tickets WHERE expires_at > $6) < $8 \
     RETURNING token_id";

const FIND: &str = "SELECT token_id, token_digest, rights, expires_at \
     FROM service_token_tickets WHERE digest = $1";

/// Only one of several concurrent statements returns the row.
const TAKE: &str = "DELETE FROM service_token_tickets WHERE digest = $1 RETURNING token_id";

const PRUNE: &str = "DELETE FROM service_token_tickets WHERE expires_at <= $1 RETURNING token_id";

/// Between two deletions of expired tickets, in milliseconds.
const PRUNE_INTERVAL: i64 = 10_000;

/// Stores tickets for streams in the database of a [`SqlStore`], so that several processes accept
/// each other's tickets, each of them once.
///
/// Created by [`SqlStore::ticket_store`]. Clones share the limits and the connections.
#[derive(Clone)]
pub struct SqlTicketStore<B> {
    store: SqlStore<B>,
    limits: TicketLimits,
    next_prune: Arc<AtomicI64>,
}

impl<B: Backend> SqlStore<B> {
    /// Creates a store of [tickets](crate::streams) in the same database. It creates the table
    /// `service_token_tickets` unless that exists.
    ///
    /// A role that may not create tables needs one that exists, by the script
    /// `src/store/sql/schema/postgres_tickets.sql`, and:
    ///
    /// ```sql
    /// GRANT SELECT, INSERT, DELETE ON service_token_tickets TO service;
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
            next_prune: Arc::default(),
        })
    }
}

impl<B: Backend> SqlTicketStore<B> {
    /// Sets the largest numbers of unused tickets, over all processes. See [`TicketLimits`] for the
    /// defaults.
    pub fn with_limits(mut self, limits: TicketLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Deletes expired tickets if that was not done lately.
    async fn prune(&self, now: i64) -> Result<(), Failure> {
        let due = self.next_prune.load(Ordering::Relaxed);
        let next = now.saturating_add(PRUNE_INTERVAL);
        let exchanged =
            self.next_prune
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
        if now >= due && exchanged.is_ok() {
            let prune = Change::Execute(PRUNE, &[Value::Int(Some(now))]);
            self.store.change(prune).await?;
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
        let limit = |limit| Value::from(i64::try_from(limit).unwrap_or(i64::MAX));
        let values = [
            Value::Bytes(Some(ticket.digest.as_bytes())),
            ticket.token_id.as_i64().into(),
            Value::Bytes(Some(ticket.token_digest.as_bytes())),
            Value::Bytes(Some(&ticket.rights)),
            millis(ticket.expires_at).into(),
            now.into(),
            limit(self.limits.per_token),
            limit(self.limits.total),
        ];
        let inserted = self.store.change(Change::Execute(INSERT, &values)).await;
        match inserted.map_err(StoreError::from)?.rows {
            0 => Err(InsertTicketError::TooMany),
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
    let parts = id.zip(token_digest).zip(rights).zip(expires_at);
    Ok(parts.map(
        |(((token_id, token_digest), rights), expires_at)| StoredTicket {
            digest,
            token_id,
            token_digest: TokenDigest::from_bytes(token_digest),
            rights,
            expires_at: expires_at.into(),
        },
    ))
}

impl<B> fmt::Debug for SqlTicketStore<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlTicketStore")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
