use futures::future::join_all;

use super::calls::insert;
use super::records::{id, plain_record, write};
use crate::registry::{RegistryError, TokenRegistry};
use crate::store::TokenRecord;

const WRITERS: i64 = 16;

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> R) {
    concurrent_updates_are_not_lost(&empty().await).await;
    concurrent_inserts_respect_limits(&empty().await).await;
}

/// Each writer adds its own label, and retries when another writer was first.
async fn concurrent_updates_are_not_lost(registry: &impl TokenRegistry) {
    insert(registry, plain_record(1)).await;
    join_all((0..WRITERS).map(async |writer| {
        loop {
            let record = registry.get(id(1)).await.expect("a store that works");
            let record = record.expect("the token is there");
            let next = record.with_label(format!("writer-{writer}"), "was here");
            match registry.update(&write(next)).await {
                Ok(_) => break,
                Err(RegistryError::RevisionMismatch) => {}
                Err(error) => panic!("an update beside others: {error}"),
            }
        }
    }))
    .await;
    let record = registry.get(id(1)).await.expect("a store that works");
    let record = record.expect("the token is there");
    assert_eq!(
        (record.labels().count(), record.revision()),
        (16, 17),
        "of 16 changes at the same time, each must be kept"
    );
}

async fn concurrent_inserts_respect_limits(registry: &impl TokenRegistry) {
    let insert = async |record: TokenRecord| {
        let write = write(record).with_unique_name(true).with_max_tokens(5);
        registry.insert(&write).await
    };
    let same_name = (0..WRITERS).map(|number| insert(plain_record(number).with_name("one")));
    let inserted = join_all(same_name).await;
    let count = inserted.iter().filter(|it| it.is_ok()).count();
    assert_eq!(
        count, 1,
        "of tokens with the same unique name, one is inserted"
    );

    let other_names = (100..100 + WRITERS).map(|number| insert(plain_record(number)));
    let inserted = join_all(other_names).await;
    let count = inserted.iter().filter(|it| it.is_ok()).count();
    assert_eq!(count, 4, "of tokens beyond the limit, none is inserted");
    for error in inserted.into_iter().filter_map(Result::err) {
        assert!(matches!(error, RegistryError::TooManyTokens), "{error}");
    }
}
