use sqlx::Connection;
#[cfg(feature = "postgres")]
use sqlx::postgres::{PgPool, Postgres};
#[cfg(feature = "sqlite")]
use sqlx::sqlite::{Sqlite, SqlitePool};

use super::session::{Session, Value};

/// Where connections come from.
#[derive(Clone)]
pub(super) enum Pool {
    /// SQLite has one writer at a time: whoever waits for it in line rather than by asking again
    /// and again gets it sooner.
    #[cfg(feature = "sqlite")]
    Sqlite {
        readers: SqlitePool,
        writers: SqlitePool,
    },
    #[cfg(feature = "postgres")]
    Postgres(PgPool),
}

/// A connection that goes back to its pool.
pub(super) enum Lease {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::pool::PoolConnection<Sqlite>),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::pool::PoolConnection<Postgres>),
}

/// Undone when dropped.
pub(super) enum Transaction<'c> {
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::Transaction<'c, Sqlite>),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::Transaction<'c, Postgres>),
}

impl Pool {
    pub(super) async fn reader(&self) -> Result<Lease, sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { readers, .. } => readers.acquire().await.map(Lease::Sqlite),
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => pool.acquire().await.map(Lease::Postgres),
        }
    }

    pub(super) async fn writer(&self) -> Result<Lease, sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { writers, .. } => writers.acquire().await.map(Lease::Sqlite),
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => pool.acquire().await.map(Lease::Postgres),
        }
    }

    /// Whether any row can have these values: no text in PostgreSQL has a zero byte, and asking for
    /// one is an error.
    pub(super) fn can_hold(&self, values: &[Value<'_>]) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { .. } => {
                let _ = values;
                true
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => !values
                .iter()
                .any(|value| matches!(value, Value::Text(Some(text)) if text.contains('\0'))),
        }
    }

    /// Whether the database counts its rows by itself, to know the better plan.
    pub(super) fn counts_rows(&self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { .. } => false,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => true,
        }
    }

    /// How many connections may have gone since they were last used.
    pub(super) fn size(&self) -> u32 {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite { readers, .. } => readers.size(),
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => pool.size(),
        }
    }
}

impl Lease {
    pub(super) fn session(&mut self) -> Session<'_> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => Session::Sqlite(connection),
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => Session::Postgres(connection),
        }
    }

    /// Begins to write.
    pub(super) async fn begin(&mut self) -> Result<Transaction<'_>, sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => {
                let transaction = connection.begin_with("BEGIN IMMEDIATE").await;
                transaction.map(Transaction::Sqlite)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => {
                let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
                let transaction = connection.begin_with(begin).await;
                transaction.map(Transaction::Postgres)
            }
        }
    }

    /// Does not give the connection back, whose server did not answer. SQLite has no server, and
    /// the connection of a database in memory is the database.
    pub(super) fn discard(&mut self) {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => {}
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => connection.close_on_drop(),
        }
    }
}

impl Transaction<'_> {
    pub(super) fn session(&mut self) -> Session<'_> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(transaction) => Session::Sqlite(transaction),
            #[cfg(feature = "postgres")]
            Self::Postgres(transaction) => Session::Postgres(transaction),
        }
    }

    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(transaction) => transaction.commit().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }
}
