use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{join, join_all};

use super::authority::{actor, actor_rejected, authority, authority_of, target, write_by};
use super::fixture::{Fixture, assert_rejected};
use super::records::{digest, plain_record, write};
use crate::registry::{RegistryError, TokenRegistry};
use crate::store::{DenialKind, TokenRecord, TokenState};

const WRITERS: i64 = 16;

/// The number of writers whose actor is changed concurrently.
const ACTING_WRITERS: i64 = 8;

const ROUNDS: i64 = 10;

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> Fixture<R>) {
    concurrent_updates_are_not_lost(&empty().await).await;
    concurrent_inserts_respect_limits(&empty().await).await;
    let store = empty().await;
    for round in 1..=ROUNDS {
        accepts_one_of_concurrent_rotations_with_the_same_secret(&store, round * 100).await;
    }
    let store = empty().await;
    for round in 1..=ROUNDS {
        rejects_writes_that_begin_after_a_revocation(&store, round * 100).await;
    }
}

/// Each writer adds its own label, and retries if another writer was first.
async fn concurrent_updates_are_not_lost(store: &Fixture<impl TokenRegistry>) {
    store.insert([plain_record(1)]).await;
    join_all((0..WRITERS).map(async |writer| {
        loop {
            let record = store.stored(1).await;
            let next = record.with_label(format!("writer-{writer}"), "updated");
            match store.0.update(&write(next)).await {
                Ok(_) => break,
                Err(RegistryError::RevisionMismatch) => {}
                Err(error) => panic!("a concurrent update: {error}"),
            }
        }
    }))
    .await;
    let record = store.stored(1).await;
    assert_eq!(
        (record.labels().count(), record.revision()),
        (16, 17),
        "one of 16 concurrent updates is lost"
    );
}

async fn concurrent_inserts_respect_limits(store: &Fixture<impl TokenRegistry>) {
    let insert = async |record: TokenRecord| {
        let write = write(record).reserve_name(true).with_max_tokens(5);
        store.0.insert(&write).await
    };
    let same_name = (0..WRITERS).map(|number| insert(plain_record(number).with_name("one")));
    let inserted = join_all(same_name).await;
    let count = inserted.iter().filter(|it| it.is_ok()).count();
    assert_eq!(count, 1, "tokens with the same unique name");

    let other_names = (100..100 + WRITERS).map(|number| insert(plain_record(number)));
    let inserted = join_all(other_names).await;
    let (inserted, rejected): (Vec<_>, Vec<_>) = inserted.into_iter().partition(Result::is_ok);
    assert_eq!(inserted.len(), 4, "tokens up to the limit");
    for outcome in rejected {
        assert_rejected(&outcome, &RegistryError::TooManyTokens, "beyond the limit");
    }
}

/// Each writer reads the token again until its rotation is made or rejected.
async fn accepts_one_of_concurrent_rotations_with_the_same_secret(
    store: &Fixture<impl TokenRegistry>,
    number: i64,
) {
    store.insert([actor(number)]).await;
    let presented = authority_of(number, digest(number));
    let rotations = (1..=ACTING_WRITERS).map(async |writer| {
        loop {
            let record = store.stored(number).await;
            tokio::task::yield_now().await;
            let rotated = record.with_digest(digest(number + writer));
            match store.0.update(&write_by(rotated, &presented)).await {
                Ok(_) => return Some(writer),
                Err(RegistryError::RevisionMismatch) => {}
                outcome => {
                    let reason = actor_rejected(DenialKind::WrongDigest);
                    assert_rejected(&outcome, &reason, "a concurrent rotation");
                    return None;
                }
            }
        }
    });
    let rotated: Vec<i64> = join_all(rotations).await.into_iter().flatten().collect();
    let [winner] = rotated[..] else {
        panic!("several rotations with one secret were made: {rotated:?}");
    };
    assert_eq!(
        *store.stored(number).await.digest(),
        digest(number + winner),
        "the rotation that succeeded is not stored"
    );
}

async fn rejects_writes_that_begin_after_a_revocation(
    store: &Fixture<impl TokenRegistry>,
    base: i64,
) {
    let targets = base + 1..=base + ACTING_WRITERS;
    store.insert([actor(base)]).await;
    store.insert(targets.clone().map(target)).await;
    let (presented, is_revoked) = (authority(base), AtomicBool::new(false));
    let writes = targets.clone().map(async |number| {
        for attempt in 0.. {
            let begins_late = is_revoked.load(Ordering::SeqCst);
            let next = store.stored(number).await;
            let next = write_by(next.with_name(format!("write {attempt}")), &presented);
            // A different number for each writer, so that the revocation meets each stage of a
            // write.
            for _ in 0..=number % 4 {
                tokio::task::yield_now().await;
            }
            let outcome = store.0.update(&next).await;
            if outcome.is_err() {
                let reason = actor_rejected(DenialKind::Revoked);
                return assert_rejected(&outcome, &reason, "a write beside a revocation");
            }
            assert!(
                !begins_late,
                "a write succeeded that began after its actor's token was revoked"
            );
        }
    });
    let revocation = async {
        tokio::task::yield_now().await;
        let record = store.stored(base).await;
        store.update(record.with_state(TokenState::Revoked)).await;
        // A write may precede the revocation. From here on, the stored records are final.
        is_revoked.store(true, Ordering::SeqCst);
        revisions(store, targets.clone()).await
    };
    let (_, final_revisions) = join(join_all(writes), revocation).await;
    assert_eq!(
        revisions(store, targets.clone()).await,
        final_revisions,
        "a write was made after its actor's token was revoked"
    );
}

async fn revisions(
    store: &Fixture<impl TokenRegistry>,
    numbers: impl Iterator<Item = i64>,
) -> Vec<u64> {
    let records = join_all(numbers.map(|number| store.stored(number))).await;
    records.iter().map(TokenRecord::revision).collect()
}
