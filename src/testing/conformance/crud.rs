use std::time::{Duration, SystemTime};

use super::fixture::{Fixture, assert_rejected};
use super::records::{assert_same, at, digest, full_record, id, plain_record, write};
use crate::registry::{RegistryError, TokenRegistry};
use crate::store::{TokenRecord, TokenState};

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> Fixture<R>) {
    returns_inserted_records_unchanged(&empty().await).await;
    rejects_duplicate_ids_and_digests(&empty().await).await;
    update_requires_the_stored_revision(&empty().await).await;
    rotation_replaces_the_digest(&empty().await).await;
    deleted_tokens_are_not_found(&empty().await).await;
    touch_changes_only_the_last_use(&empty().await).await;
}

async fn returns_inserted_records_unchanged(store: &Fixture<impl TokenRegistry>) {
    let find_by_digest = async |number| {
        let found = store.0.find_by_digest(&digest(number)).await;
        found.expect("a lookup by digest")
    };
    let before_epoch = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    for (number, record) in [
        (1, plain_record(1)),
        (2, full_record(2)),
        (3, TokenRecord::new(id(3), digest(3))),
        (4, plain_record(4).with_created_at(before_epoch)),
        (5, plain_record(5).with_expires_at(at(200_000_000_000))),
    ] {
        store.insert([record.clone()]).await;
        store.assert_stored(&record).await;
        let found = find_by_digest(number).await;
        assert_same(&found.expect("a current digest"), &record);
        store.assert_found(number, &record).await;
    }
    let found = find_by_digest(1002).await;
    assert_same(&found.expect("a previous digest"), &full_record(2));
    store.assert_found(1002, &full_record(2)).await;
    assert!(find_by_digest(99).await.is_none());
    store.assert_absent(99).await;
}

async fn rejects_duplicate_ids_and_digests(store: &Fixture<impl TokenRegistry>) {
    store.insert([full_record(1), plain_record(2)]).await;
    let same_id = write(plain_record(1).with_digest(digest(50)));
    let same_id = store.0.insert(&same_id).await;
    assert_rejected(&same_id, &RegistryError::DuplicateId, "a known id");
    let same_number = TokenRecord::new(id(10_000_000_000_001), digest(50));
    let same_number = store.0.insert(&write(same_number)).await;
    let reason = RegistryError::DuplicateNumber;
    assert_rejected(&same_number, &reason, "an id with a known number");
    let reason = RegistryError::DuplicateDigest;
    for known in [2, 1001] {
        let current = plain_record(9).with_digest(digest(known));
        let previous = plain_record(9).with_previous_digest((digest(known), at(0)));
        for record in [current, previous] {
            let outcome = store.0.insert(&write(record)).await;
            assert_rejected(&outcome, &reason, "an insertion with a known digest");
        }
    }
    for known in [1, 1001] {
        let record = plain_record(2).with_digest(digest(known));
        let outcome = store.0.update(&write(record)).await;
        assert_rejected(&outcome, &reason, "an update to a known digest");
    }
    store.assert_stored(&full_record(1)).await;
    store.assert_stored(&plain_record(2)).await;
    store.assert_absent(9).await;
}

async fn update_requires_the_stored_revision(store: &Fixture<impl TokenRegistry>) {
    store.insert([full_record(1)]).await;
    let unknown = store.0.update(&write(plain_record(2))).await;
    assert_rejected(&unknown, &RegistryError::UnknownId, "an unknown id");
    let next = plain_record(1).with_state(TokenState::Disabled);
    let reason = RegistryError::RevisionMismatch;
    for revision in [6, 8] {
        let outcome = write(next.clone().with_revision(revision));
        let outcome = store.0.update(&outcome).await;
        assert_rejected(&outcome, &reason, "another revision");
    }
    store.assert_stored(&full_record(1)).await;
    let updated = store.update(next.clone().with_revision(7)).await;
    let last_used_at = full_record(1).last_used_at();
    let expected = next.with_revision(8).with_last_used_at(last_used_at);
    assert_same(&updated, &expected);
    store.assert_stored(&expected).await;
    store.assert_found(1, &expected).await;
    store.assert_not_found(1001, "a removed secret").await;
}

async fn rotation_replaces_the_digest(store: &Fixture<impl TokenRegistry>) {
    let rotate = async |record: TokenRecord, from, to| {
        let rotated = record.with_digest(digest(to));
        let rotated = rotated.with_previous_digest((digest(from), at(60)));
        store.update(rotated).await
    };
    store.insert([plain_record(1)]).await;
    let rotated = rotate(plain_record(1), 1, 11).await;
    store.assert_found(1, &rotated).await;
    store.assert_found(11, &rotated).await;
    let rotated = rotate(rotated, 11, 12).await;
    store.assert_not_found(1, "a superseded secret").await;
    store.assert_found(11, &rotated).await;
    store.assert_found(12, &rotated).await;
    // Another token may have a digest that is no longer in use.
    store.insert([plain_record(2).with_digest(digest(1))]).await;
    store.update(rotated.with_previous_digest(None)).await;
    store.assert_not_found(11, "a removed secret").await;
}

async fn deleted_tokens_are_not_found(store: &Fixture<impl TokenRegistry>) {
    let delete = async |record| store.0.delete(&write(record)).await;
    store.insert([full_record(1), plain_record(2)]).await;
    let outdated = delete(full_record(1).with_revision(6)).await;
    let reason = RegistryError::RevisionMismatch;
    assert_rejected(&outdated, &reason, "another revision");
    store.assert_found(1, &full_record(1)).await;
    store.delete(full_record(1)).await;
    for number in [1, 1001] {
        store.assert_not_found(number, "a deleted token").await;
    }
    store.assert_absent(1).await;
    let unknown = delete(full_record(1)).await;
    assert_rejected(&unknown, &RegistryError::UnknownId, "an unknown id");
    store.insert([full_record(1)]).await;
    store.assert_stored(&full_record(1)).await;
    store.assert_stored(&plain_record(2)).await;
}

async fn touch_changes_only_the_last_use(store: &Fixture<impl TokenRegistry>) {
    store.insert([1, 2].map(plain_record)).await;
    let touch = async |uses: &[(i64, i64)]| {
        let uses = uses.iter().map(|(number, time)| (id(*number), at(*time)));
        let touched = store.0.touch(&uses.collect::<Vec<_>>()).await;
        touched.expect("last uses");
    };
    let used = |number, time| plain_record(number).with_last_used_at(at(time));
    touch(&[]).await;
    touch(&[(1, 100), (99, 100), (2, 50)]).await;
    store.assert_stored(&used(1, 100)).await;
    touch(&[(1, 90), (2, 60)]).await;
    store.assert_stored(&used(1, 100)).await;
    store.assert_stored(&used(2, 60)).await;
    store.assert_absent(99).await;
}
