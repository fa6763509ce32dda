//! Tokens in SQLite or PostgreSQL: the same tables and statements in either database.

mod background_task;
mod batch;
mod columns;
#[cfg(feature = "sqlite")]
mod database_file;
mod dialect;
#[cfg(feature = "postgres")]
mod server_health;
mod failure;
mod feed_tracker;
mod file_check;
mod filter;
mod notification;
mod open_error;
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod probe;
mod publish;
mod registry;
#[cfg(feature = "postgres")]
mod release_guard;
mod retention;
mod schema;
mod session;
#[cfg(feature = "sqlite")]
mod sqlite;
mod state;
mod tables;
mod operation;
mod audit_log;
mod write;

pub use self::open_error::{OpenStoreError, OpenStoreErrorKind};
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use self::postgres::PostgresStore;
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use self::sqlite::SqliteStore;
pub use self::state::StoreState;
