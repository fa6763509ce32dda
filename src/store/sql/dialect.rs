//! Where the databases differ.

use super::columns::columns;
use super::session::{Row, Session, Value};
use crate::digest::TokenDigest;

/// Every limit on the number of tokens takes turns on this.
#[cfg(feature = "postgres")]
const TOKEN_COUNT_LOCK: i64 = 0x7365_7276_746f_6b01;

/// Every change that could end the last token that may administer takes turns on this.
#[cfg(feature = "postgres")]
const ADMIN_LOCK: i64 = 0x7365_7276_746f_6b03;

/// Every change of the schema takes turns on this.
#[cfg(feature = "postgres")]
const SCHEMA_LOCK: i64 = 0x7365_7276_746f_6b02;

/// The channel that PostgreSQL tells of changes on. One for each database.
#[cfg(feature = "postgres")]
pub(super) const CHANNEL: &str = "service_token_changes";

#[cfg(feature = "postgres")]
const LOCK: &str = "SELECT pg_advisory_xact_lock($1)";

/// A statement that waits for a lock keeps those waiting that come after it, so a change of the
/// schema gives up soon and is tried again.
#[cfg(feature = "postgres")]
const LIMIT_SCHEMA_LOCKS: &str = "SET LOCAL lock_timeout = '2s'";

#[cfg(feature = "postgres")]
const NOTIFY: &str = "SELECT pg_notify('service_token_changes', $1)";

#[cfg(feature = "sqlite")]
const LOG: &str = "INSERT INTO service_token_changes (change) VALUES ($1)";

/// Keeps the last 10,000.
#[cfg(feature = "sqlite")]
const PRUNE_LOG: &str = "DELETE FROM service_token_changes \
     WHERE seq <= (SELECT MAX(seq) FROM service_token_changes) - 10000";

#[cfg(feature = "sqlite")]
const TOUCH_SQLITE: &str = "UPDATE service_tokens SET last_used_at = uses.at FROM \
     (SELECT value ->> 0 AS id, value ->> 1 AS at FROM json_each($1)) AS uses \
     WHERE service_tokens.id = uses.id \
     AND (last_used_at IS NULL OR last_used_at < uses.at)";

/// Rows are locked in the order of their ids, so that two batches cannot wait for each other.
#[cfg(feature = "postgres")]
const TOUCH_POSTGRES: &str = "WITH uses AS \
     (SELECT (value ->> 0)::BIGINT AS id, (value ->> 1)::BIGINT AS at \
      FROM json_array_elements($1::JSON)), \
     older AS (SELECT t.id, uses.at FROM service_tokens t JOIN uses ON uses.id = t.id \
      WHERE t.last_used_at IS NULL OR t.last_used_at < uses.at \
      ORDER BY t.id FOR NO KEY UPDATE OF t) \
     UPDATE service_tokens SET last_used_at = older.at FROM older \
     WHERE service_tokens.id = older.id";

#[cfg(feature = "sqlite")]
const GET_MANY_SQLITE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM service_tokens WHERE id IN (SELECT value FROM json_each($1)) ORDER BY id"
);

/// Locks in the order of the ids, so that two transactions cannot wait for each other.
#[cfg(feature = "postgres")]
const GET_MANY_POSTGRES: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM service_tokens WHERE id IN \
     (SELECT value::BIGINT FROM json_array_elements_text($1::JSON)) ORDER BY id FOR UPDATE"
);

/// A reserved name is free again once its token is revoked.
#[cfg(feature = "sqlite")]
const REVOKE_MANY_SQLITE: &str = "UPDATE service_tokens SET \
     state = 2, updated_at = revoked.at, revision = revision + 1, reserved_name = NULL FROM \
     (SELECT value ->> 0 AS id, value ->> 1 AS at FROM json_each($1)) AS revoked \
     WHERE service_tokens.id = revoked.id";

#[cfg(feature = "postgres")]
const REVOKE_MANY_POSTGRES: &str = "UPDATE service_tokens SET \
     state = 2, updated_at = revoked.at, revision = revision + 1, reserved_name = NULL FROM \
     (SELECT (value ->> 0)::BIGINT AS id, (value ->> 1)::BIGINT AS at \
      FROM json_array_elements($1::JSON)) AS revoked \
     WHERE service_tokens.id = revoked.id";

#[cfg(feature = "sqlite")]
const LOG_MANY: &str =
    "INSERT INTO service_token_changes (change) SELECT value FROM json_each($1) ORDER BY key";

#[cfg(feature = "postgres")]
const NOTIFY_MANY: &str = "SELECT pg_notify('service_token_changes', value) \
     FROM json_array_elements_text($1::JSON)";

#[cfg(feature = "sqlite")]
const APPEND_MANY_SQLITE: &str = "INSERT INTO service_token_events \
     (at, actor, action, token_id, changes, client_address) \
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 \
     FROM json_each($1) ORDER BY key";

#[cfg(feature = "postgres")]
const APPEND_MANY_POSTGRES: &str = "INSERT INTO service_token_events \
     (at, actor, action, token_id, changes, client_address) \
     SELECT (value ->> 0)::BIGINT, value ->> 1, value ->> 2, (value ->> 3)::BIGINT, value ->> 4, \
     value ->> 5 \
     FROM json_array_elements($1::JSON) WITH ORDINALITY AS events (value, place) ORDER BY place";

/// The oldest events before $1, at most $2.
#[cfg(feature = "sqlite")]
const PRUNE_AUDIT_LOG_SQLITE: &str = "DELETE FROM service_token_events WHERE seq IN \
     (SELECT seq FROM service_token_events WHERE at < $1 ORDER BY at LIMIT $2)";

/// As for SQLite. Several nodes may do so at once.
#[cfg(feature = "postgres")]
const PRUNE_AUDIT_LOG_POSTGRES: &str = "DELETE FROM service_token_events WHERE seq IN \
     (SELECT seq FROM service_token_events WHERE at < $1 ORDER BY at LIMIT $2 \
      FOR UPDATE SKIP LOCKED)";

impl Session<'_> {
    /// Whether writers change rows side by side, so that a row must be locked before it is judged.
    pub(super) fn locks_rows(&self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => false,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => true,
        }
    }

    /// Nobody else counts tokens until the transaction ends.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(
            clippy::unused_async,
            reason = "SQLite has one writer, who need not wait"
        )
    )]
    pub(super) async fn lock_token_count(&mut self) -> Result<(), sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => self.lock(TOKEN_COUNT_LOCK).await,
        }
    }

    /// Keeps other transactions from ending a token that may administer until this one ends.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(
            clippy::unused_async,
            reason = "SQLite has one writer, who need not wait"
        )
    )]
    pub(super) async fn lock_admins(&mut self) -> Result<(), sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => self.lock(ADMIN_LOCK).await,
        }
    }

    /// Nobody else changes the schema until the transaction ends.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(
            clippy::unused_async,
            reason = "SQLite has one writer, who need not wait"
        )
    )]
    pub(super) async fn lock_schema(&mut self) -> Result<(), sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => {
                self.script(LIMIT_SCHEMA_LOCKS).await?;
                self.lock(SCHEMA_LOCK).await
            }
        }
    }

    /// Nobody else gives these digests to a token until the transaction ends: a unique index
    /// does not see that one token's digest is the previous one of another.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(
            clippy::unused_async,
            reason = "SQLite has one writer, who need not wait"
        )
    )]
    pub(super) async fn lock_digests(
        &mut self,
        digests: impl Iterator<Item = &TokenDigest> + Send,
    ) -> Result<(), sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => {
                drop(digests);
                Ok(())
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => {
                let mut keys: Vec<i64> =
                    digests.map(|digest| digest.index().cast_signed()).collect();
                // In order, so that no two writers wait for each other.
                keys.sort_unstable();
                for key in keys {
                    self.lock(key).await?;
                }
                Ok(())
            }
        }
    }

    #[cfg(feature = "postgres")]
    async fn lock(&mut self, key: i64) -> Result<(), sqlx::Error> {
        self.execute(LOCK, &[Value::Int(Some(key))]).await?;
        Ok(())
    }

    /// Tells other processes of the change, once the transaction is committed.
    pub(super) async fn notify(&mut self, notification: &str) -> Result<(), sqlx::Error> {
        let notification = Value::Text(Some(notification));
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => {
                self.execute(LOG, &[notification]).await?;
                self.execute(PRUNE_LOG, &[]).await?;
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => {
                self.execute(NOTIFY, &[notification]).await?;
            }
        }
        Ok(())
    }

    /// As [`notify`](Self::notify), for a JSON array of notices.
    pub(super) async fn notify_many(&mut self, notifications: &str) -> Result<(), sqlx::Error> {
        let notifications = Value::Text(Some(notifications));
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => {
                self.execute(LOG_MANY, &[notifications]).await?;
                self.execute(PRUNE_LOG, &[]).await?;
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => {
                self.execute(NOTIFY_MANY, &[notifications]).await?;
            }
        }
        Ok(())
    }

    /// The rows of a JSON array of ids, locked in the order of the ids.
    pub(super) async fn get_many(&mut self, ids: &str) -> Result<Vec<Row>, sqlx::Error> {
        let statement = match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => GET_MANY_SQLITE,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => GET_MANY_POSTGRES,
        };
        self.rows(statement, &[Value::Text(Some(ids))]).await
    }

    /// Revokes tokens, given as a JSON array of pairs of id and time.
    pub(super) async fn revoke_many(&mut self, tokens: &str) -> Result<(), sqlx::Error> {
        let statement = match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => REVOKE_MANY_SQLITE,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => REVOKE_MANY_POSTGRES,
        };
        self.execute(statement, &[Value::Text(Some(tokens))])
            .await?;
        Ok(())
    }

    /// Appends to the audit trail, given as a JSON array of rows.
    pub(super) async fn append_many(&mut self, events: &str) -> Result<(), sqlx::Error> {
        let statement = match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => APPEND_MANY_SQLITE,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => APPEND_MANY_POSTGRES,
        };
        self.execute(statement, &[Value::Text(Some(events))])
            .await?;
        Ok(())
    }

    /// Deletes the oldest events of the audit trail that are older than a time in milliseconds, and
    /// returns how many there were, at most `limit`.
    pub(super) async fn prune_audit_log(
        &mut self,
        before: i64,
        limit: i64,
    ) -> Result<u64, sqlx::Error> {
        let statement = match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => PRUNE_AUDIT_LOG_SQLITE,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => PRUNE_AUDIT_LOG_POSTGRES,
        };
        let values = [Value::Int(Some(before)), Value::Int(Some(limit))];
        self.execute(statement, &values).await
    }

    /// Moves last uses forward, given as a JSON array of pairs of id and time.
    pub(super) async fn touch(&mut self, uses: &str) -> Result<(), sqlx::Error> {
        let statement = match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => TOUCH_SQLITE,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => TOUCH_POSTGRES,
        };
        self.execute(statement, &[Value::Text(Some(uses))]).await?;
        Ok(())
    }
}
