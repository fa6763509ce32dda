use std::time::{Duration, SystemTime};

use super::calls::{assert_absent, insert, stored};
use super::find_token;
use super::records::{assert_same, at, digest, full_record, id, plain_record, write};
use crate::registry::{RegistryError, TokenRegistry};
use crate::store::{TokenRecord, TokenState};

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> R) {
    returns_inserted_records_unchanged(&empty().await).await;
    rejects_duplicate_ids_and_digests(&empty().await).await;
    update_requires_the_stored_revision(&empty().await).await;
    rotation_replaces_the_digest(&empty().await).await;
    deleted_tokens_are_not_found(&empty().await).await;
    touch_changes_only_the_last_use(&empty().await).await;
}

async fn returns_inserted_records_unchanged(registry: &impl TokenRegistry) {
    let bare = TokenRecord::new(id(3), digest(3));
    let ancient = plain_record(4).with_created_at(SystemTime::UNIX_EPOCH - Duration::from_secs(1));
    let far = plain_record(5).with_expires_at(at(200_000_000_000));
    for (number, record) in [
        (1, plain_record(1)),
        (2, full_record(2)),
        (3, bare),
        (4, ancient),
        (5, far),
    ] {
        insert(registry, record.clone()).await;
        assert_same(&stored(registry, number).await, &record);
        let by_digest = registry.find_by_digest(&digest(number)).await;
        let by_digest = by_digest.expect("a store that works");
        assert_same(&by_digest.expect("a known digest"), &record);
        assert_same(
            &find_token(registry, number).await.expect("a known token"),
            &record,
        );
    }
    let by_previous = registry.find_by_digest(&digest(1002)).await;
    let by_previous = by_previous.expect("a store that works");
    assert_same(&by_previous.expect("a previous digest"), &full_record(2));
    assert!(
        find_token(registry, 1002).await.is_some(),
        "a previous secret finds its token"
    );
    let nobody = registry.find_by_digest(&digest(99)).await;
    assert!(nobody.expect("a store that works").is_none());
    assert_absent(registry, 99).await;
}

async fn rejects_duplicate_ids_and_digests(registry: &impl TokenRegistry) {
    insert(registry, full_record(1)).await;
    insert(registry, plain_record(2)).await;
    let taken = registry
        .insert(&write(plain_record(1).with_digest(digest(50))))
        .await;
    assert!(
        matches!(taken, Err(RegistryError::DuplicateId)),
        "a taken id: {taken:?}"
    );
    for (what, record) in [
        ("a digest", plain_record(9).with_digest(digest(2))),
        (
            "a previous digest",
            plain_record(9).with_digest(digest(1001)),
        ),
        (
            "as previous, a digest",
            plain_record(9).with_previous_digest((digest(2), at(0))),
        ),
        (
            "as previous, a previous digest",
            plain_record(9).with_previous_digest((digest(1001), at(0))),
        ),
    ] {
        let taken = registry.insert(&write(record)).await;
        assert!(
            matches!(taken, Err(RegistryError::DuplicateDigest)),
            "{what} of another token: {taken:?}"
        );
    }
    for known in [digest(1), digest(1001)] {
        let taken = registry
            .update(&write(plain_record(2).with_digest(known)))
            .await;
        assert!(
            matches!(taken, Err(RegistryError::DuplicateDigest)),
            "an update to a taken digest: {taken:?}"
        );
    }
    assert_same(&stored(registry, 1).await, &full_record(1));
    assert_same(&stored(registry, 2).await, &plain_record(2));
    assert_absent(registry, 9).await;
}

async fn update_requires_the_stored_revision(registry: &impl TokenRegistry) {
    insert(registry, full_record(1)).await;
    let unknown = registry.update(&write(plain_record(2))).await;
    assert!(
        matches!(unknown, Err(RegistryError::UnknownId)),
        "an update of nothing: {unknown:?}"
    );
    let next = plain_record(1).with_state(TokenState::Disabled);
    for revision in [6, 8] {
        let changed = registry
            .update(&write(next.clone().with_revision(revision)))
            .await;
        assert!(
            matches!(changed, Err(RegistryError::RevisionMismatch)),
            "another revision: {changed:?}"
        );
    }
    assert_same(&stored(registry, 1).await, &full_record(1));
    let updated = registry.update(&write(next.clone().with_revision(7))).await;
    let updated = updated.expect("the stored revision can be updated");
    let expected = next
        .with_revision(8)
        .with_last_used_at(full_record(1).last_used_at());
    assert_same(&updated, &expected);
    assert_same(&stored(registry, 1).await, &expected);
    assert_same(
        &find_token(registry, 1).await.expect("a known token"),
        &expected,
    );
    assert!(
        find_token(registry, 1001).await.is_none(),
        "a previous digest that was dropped"
    );
}

async fn rotation_replaces_the_digest(registry: &impl TokenRegistry) {
    insert(registry, plain_record(1)).await;
    let rotated = plain_record(1)
        .with_digest(digest(11))
        .with_previous_digest((digest(1), at(60)));
    let rotated = registry.update(&write(rotated)).await.expect("a rotation");
    for number in [1, 11] {
        let found = find_token(registry, number)
            .await
            .expect("both secrets find the token");
        assert_same(&found, &rotated);
    }
    let again = rotated
        .with_digest(digest(12))
        .with_previous_digest((digest(11), at(60)));
    let again = registry
        .update(&write(again))
        .await
        .expect("another rotation");
    assert!(
        find_token(registry, 1).await.is_none(),
        "the secret from before the last one"
    );
    assert!(find_token(registry, 11).await.is_some() && find_token(registry, 12).await.is_some());
    // What was given up can be taken by another.
    insert(registry, plain_record(2).with_digest(digest(1))).await;
    let without = again.with_previous_digest(None);
    registry.update(&write(without)).await.expect("an update");
    assert!(
        find_token(registry, 11).await.is_none(),
        "a secret that was dropped"
    );
}

async fn deleted_tokens_are_not_found(registry: &impl TokenRegistry) {
    insert(registry, full_record(1)).await;
    insert(registry, plain_record(2)).await;
    let changed = registry
        .delete(&write(full_record(1).with_revision(6)))
        .await;
    assert!(
        matches!(changed, Err(RegistryError::RevisionMismatch)),
        "another revision: {changed:?}"
    );
    assert!(find_token(registry, 1).await.is_some());
    registry
        .delete(&write(full_record(1)))
        .await
        .expect("a deletion");
    for number in [1, 1001] {
        assert!(
            find_token(registry, number).await.is_none(),
            "a deleted token was found"
        );
    }
    assert_absent(registry, 1).await;
    let gone = registry.delete(&write(full_record(1))).await;
    assert!(
        matches!(gone, Err(RegistryError::UnknownId)),
        "a deletion of nothing: {gone:?}"
    );
    insert(registry, full_record(1)).await;
    assert_same(&stored(registry, 1).await, &full_record(1));
    assert_same(&stored(registry, 2).await, &plain_record(2));
}

async fn touch_changes_only_the_last_use(registry: &impl TokenRegistry) {
    insert(registry, plain_record(1)).await;
    insert(registry, plain_record(2)).await;
    let touch = async |uses: &[(i64, i64)]| {
        let uses: Vec<_> = uses
            .iter()
            .map(|(number, time)| (id(*number), at(*time)))
            .collect();
        registry.touch(&uses).await.expect("uses are noted");
    };
    touch(&[]).await;
    touch(&[(1, 100), (99, 100), (2, 50)]).await;
    assert_same(
        &stored(registry, 1).await,
        &plain_record(1).with_last_used_at(at(100)),
    );
    touch(&[(1, 90), (2, 60)]).await;
    assert_same(
        &stored(registry, 1).await,
        &plain_record(1).with_last_used_at(at(100)),
    );
    assert_same(
        &stored(registry, 2).await,
        &plain_record(2).with_last_used_at(at(60)),
    );
    assert_absent(registry, 99).await;
}
