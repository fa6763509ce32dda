//! Concurrent writers with several pools, as in several processes.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tower_service_token::registry::{RegistryError, Write};
use tower_service_token::store::{TokenRecord, TokenState};

use crate::database::{Store, TestDatabase, at, digest, minted, write};

const WRITERS: usize = 16;

/// Opens four stores with a pool each.
async fn stores(database: &TestDatabase) -> Vec<Store> {
    let mut stores = Vec::new();
    for _ in 0..4 {
        // The deadline allows sixteen writers to sync one after the other on a slow disk.
        stores.push(
            database
                .open()
                .await
                .with_deadline(std::time::Duration::from_secs(60)),
        );
    }
    stores
}

/// Inserts all records concurrently. Returns the number of successes and the errors.
async fn insert_concurrently(
    database: &TestDatabase,
    writes: Vec<Write>,
) -> (usize, Vec<RegistryError>) {
    let stores = stores(database).await;
    let start = Arc::new(Barrier::new(writes.len()));
    let mut tasks = JoinSet::new();
    for (n, write) in writes.into_iter().enumerate() {
        let (store, start) = (stores[n % stores.len()].clone(), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            store.insert(&write).await
        });
    }
    let outcomes = tasks.join_all().await;
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    (done, outcomes.into_iter().filter_map(Result::err).collect())
}

pub(crate) async fn concurrent_creators_cannot_share_a_unique_name(database: TestDatabase) {
    for name in ["first", "second", "third"] {
        let writes = (0..WRITERS)
            .map(|_| write(&minted().with_name(name)).reserve_name(true))
            .collect();
        let (done, rejected) = insert_concurrently(&database, writes).await;
        assert_eq!(done, 1);
        let all_taken = rejected
            .iter()
            .all(|error| matches!(error, RegistryError::NameTaken));
        assert!(all_taken, "{rejected:?}");
    }
    let pool = database.pool(1).await;
    assert_eq!(pool.number("SELECT COUNT(*) FROM service_tokens").await, 3);
}

pub(crate) async fn concurrent_creators_do_not_exceed_the_limit(database: TestDatabase) {
    let writes = (0..WRITERS)
        .map(|_| write(&minted().with_roles(["role"])).with_max_tokens(5))
        .collect();
    let (done, rejected) = insert_concurrently(&database, writes).await;
    assert_eq!(done, 5);
    let all_too_many = rejected
        .iter()
        .all(|error| matches!(error, RegistryError::TooManyTokens));
    assert!(all_too_many, "{rejected:?}");
    let pool = database.pool(1).await;
    assert_eq!(pool.number("SELECT COUNT(*) FROM service_tokens").await, 5);
    let attributes = "SELECT COUNT(*) FROM service_token_attributes";
    assert_eq!(pool.number(attributes).await, 5);
}

/// Each writer adds a role to the same token and retries until the update succeeds.
pub(crate) async fn concurrent_updates_are_not_lost(database: TestDatabase) {
    let stores = stores(&database).await;
    let record = minted();
    stores[0].insert(&write(&record)).await.unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..WRITERS {
        let (store, id) = (stores[n % stores.len()].clone(), record.id());
        tasks.spawn(async move {
            loop {
                let current = store.get(id).await.unwrap().unwrap();
                let mut roles: Vec<String> = current.roles().iter().map(str::to_owned).collect();
                roles.push(format!("role {n}"));
                let changed = current.clone().with_roles(&roles);
                match store.update(&write(&changed)).await {
                    Ok(_) => return,
                    Err(RegistryError::RevisionMismatch) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
    }
    tasks.join_all().await;
    let updated = stores[0].get(record.id()).await.unwrap().unwrap();
    assert_eq!(updated.revision(), WRITERS as u64);
    for n in 0..WRITERS {
        assert!(updated.roles().contains(&format!("role {n}")), "{n}");
    }
}

pub(crate) async fn concurrent_writers_cannot_share_a_digest(database: TestDatabase) {
    for round in 0..5 {
        let contended = digest(&format!("contended {round}"));
        let writes = (0..WRITERS).map(|n| {
            let record = minted();
            write(&if n % 2 == 0 {
                record.with_digest(contended)
            } else {
                record.with_previous_digest((contended, at(9)))
            })
        });
        let (done, rejected) = insert_concurrently(&database, writes.collect()).await;
        assert_eq!(done, 1);
        let all_duplicates = rejected
            .iter()
            .all(|error| matches!(error, RegistryError::DuplicateDigest));
        assert!(all_duplicates, "{rejected:?}");
    }
}

pub(crate) async fn touches_and_updates_do_not_deadlock(database: TestDatabase) {
    let stores = stores(&database).await;
    let records: Vec<TokenRecord> = (0..40).map(|_| minted()).collect();
    for record in &records {
        stores[0].insert(&write(record)).await.unwrap();
    }
    let mut tasks = JoinSet::new();
    for n in 0..8_u64 {
        let store = stores[usize::try_from(n).unwrap() % stores.len()].clone();
        let mut uses: Vec<(_, SystemTime)> = records.iter().map(|it| (it.id(), at(n))).collect();
        if n % 2 == 0 {
            uses.reverse();
        }
        let records = records.clone();
        tasks.spawn(async move {
            for round in 0..5 {
                for (_, at) in &mut uses {
                    *at += std::time::Duration::from_millis(round);
                }
                store.touch(&uses).await.unwrap();
                let current = &records[usize::try_from(n).unwrap()];
                let current = store.get(current.id()).await.unwrap().unwrap();
                let changed = current.with_state(TokenState::Disabled);
                store.update(&write(&changed)).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    for record in &records {
        let updated = stores[0].get(record.id()).await.unwrap().unwrap();
        // This is the latest of all times.
        assert_eq!(updated.last_used_at(), Some(at(7 + 10)));
    }
}
