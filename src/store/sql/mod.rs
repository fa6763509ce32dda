//! Stores in a SQL database: `SqliteStore` and `PostgresStore`.
#![expect(private_bounds, reason = "other crates do not implement `Backend`")]

mod audit_trail;
mod backend;
mod background_task;
mod batch;
mod change;
mod columns;
mod failure;
mod feed_tracker;
mod json_row;
mod list_query;
mod notification;
mod open_error;
mod operations;
#[cfg(feature = "postgres")]
mod postgres;
mod schema;
mod session;
#[cfg(feature = "sqlite")]
mod sqlite;
mod state;
mod store;
mod tickets;
mod write;

pub use self::open_error::{OpenStoreError, OpenStoreErrorKind};
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use self::postgres::PostgresStore;
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use self::sqlite::SqliteStore;
pub use self::state::StoreState;
pub use self::store::SqlStore;
pub use self::tickets::SqlTicketStore;
