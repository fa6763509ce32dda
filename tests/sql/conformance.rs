//! The public conformance suite, with a separate database for each rule.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tower_service_token::registry::TokenRegistry;
use tower_service_token::store::sql::{PostgresStore, SqliteStore};
use tower_service_token::testing::conformance;

use crate::database::TestDatabase;

pub(crate) async fn passes_the_conformance_suite(database: TestDatabase) {
    // The future of the suite is not `Send`, so it runs on one thread.
    let runtime = Handle::current();
    let check = tokio::task::spawn_blocking(move || runtime.block_on(check(database)));
    check.await.unwrap();
}

async fn check(database: TestDatabase) {
    match database {
        TestDatabase::Sqlite(folder) => {
            let next = AtomicU32::new(0);
            let empty = async || {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let store = SqliteStore::open(folder.join(format!("suite-{number}.db"))).await;
                Arc::new(store.unwrap()) as Arc<dyn TokenRegistry>
            };
            conformance::token_registry(empty).await;
            let next = AtomicU32::new(0);
            let empty = async || {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let store = SqliteStore::open(folder.join(format!("tickets-{number}.db"))).await;
                store.unwrap().ticket_store().await.unwrap()
            };
            conformance::ticket_store(empty).await;
        }
        TestDatabase::Postgres { server, .. } => {
            let urls = Mutex::new(Vec::new());
            let empty = async || {
                let url = server.0.create_database().await;
                urls.lock().unwrap().push(url.clone());
                let store = PostgresStore::connect(&url).await;
                Arc::new(store.unwrap()) as Arc<dyn TokenRegistry>
            };
            conformance::token_registry(empty).await;
            let empty = async || {
                let url = server.0.create_database().await;
                urls.lock().unwrap().push(url.clone());
                let store = PostgresStore::connect(&url).await;
                store.unwrap().ticket_store().await.unwrap()
            };
            conformance::ticket_store(empty).await;
            for url in urls.into_inner().unwrap() {
                server.0.drop_database(&url).await;
            }
        }
    }
}
