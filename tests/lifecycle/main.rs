//! Lifecycle operations on a memory store. `tests/sql` runs the same tests on SQLite and
//! PostgreSQL.

mod concurrent_creation;
#[cfg(feature = "axum")]
mod responses;
mod time_forms;
mod unfiltered_registry;

use std::sync::Arc;

use tower_service_token::MemoryStore;

macro_rules! in_memory {
    ($module:ident: $($name:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                tests::$module::$name(Arc::new(MemoryStore::new())).await;
            }
        )+
    };
}

macro_rules! operations_in_memory {
    ($($names:tt)+) => { in_memory!(operations: $($names)+); };
}

macro_rules! owners_in_memory {
    ($($names:tt)+) => { in_memory!(owners: $($names)+); };
}

tests::every_test!(operations_in_memory);
tests::every_owner_test!(owners_in_memory);

#[tokio::test]
async fn nothing_of_another_owner_is_visible() {
    for seed in 1..=8 {
        let store = Arc::new(MemoryStore::new());
        tests::tenants::nothing_of_another_owner_is_visible(store, seed, 3_000).await;
    }
}
