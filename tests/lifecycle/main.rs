//! Lifecycle operations on a memory store. `tests/sql` runs the same tests on SQLite and
//! PostgreSQL.

mod concurrent_creation;
#[cfg(feature = "axum")]
mod responses;
mod time_forms;

use std::sync::Arc;

use tower_service_token::MemoryStore;

macro_rules! in_memory {
    ($($name:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                tests::operations::$name(Arc::new(MemoryStore::new())).await;
            }
        )+
    };
}

tests::every_test!(in_memory);
