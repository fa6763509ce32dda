//! The life of tokens in memory; `tests/sql` runs the same tests on SQLite and PostgreSQL.

mod concurrent_creation;
mod operations;

use std::sync::Arc;

use tower_service_token::MemoryStore;

macro_rules! in_memory {
    ($($name:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                operations::$name(Arc::new(MemoryStore::new())).await;
            }
        )+
    };
}

operations::every_test!(in_memory);
