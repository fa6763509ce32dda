//! Where the databases differ.

use super::session::{Session, Value};
use crate::digest::TokenDigest;

/// Every limit on the number of tokens takes turns on this.
#[cfg(feature = "postgres")]
const COUNT_LOCK: i64 = 0x7365_7276_746f_6b01;

/// Every change of the schema takes turns on this.
#[cfg(feature = "postgres")]
const SCHEMA_LOCK: i64 = 0x7365_7276_746f_6b02;

/// The channel that PostgreSQL tells of changes on. One for each database.
#[cfg(feature = "postgres")]
pub(super) const CHANNEL: &str = "service_token_changes";

#[cfg(feature = "postgres")]
const LOCK: &str = "SELECT pg_advisory_xact_lock($1)";

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
    pub(super) async fn lock_count(&mut self) -> Result<(), sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Ok(()),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => self.lock(COUNT_LOCK).await,
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
            Self::Postgres(_) => self.lock(SCHEMA_LOCK).await,
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
    pub(super) async fn announce(&mut self, notice: &str) -> Result<(), sqlx::Error> {
        let notice = Value::Text(Some(notice));
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => {
                self.execute(LOG, &[notice]).await?;
                self.execute(PRUNE_LOG, &[]).await?;
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => {
                self.execute(NOTIFY, &[notice]).await?;
            }
        }
        Ok(())
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
