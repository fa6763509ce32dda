//! The life of tokens in memory; `tests/sql` runs the same tests on SQLite and PostgreSQL.

mod overtaken;
mod verbs;

use std::sync::Arc;

use tower_service_token::MemoryStore;

macro_rules! in_memory {
    ($($name:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                verbs::$name(Arc::new(MemoryStore::new())).await;
            }
        )+
    };
}

verbs::every_test!(in_memory);
