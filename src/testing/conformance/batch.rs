//! `update_many` makes each write as `update` does.

use super::authority::{actor, actor_rejected, authority, escalation_denied, target, write_by};
use super::fixture::{Fixture, assert_rejected};
use super::notifications::RecordedChanges;
use super::records::{assert_same, at, digest, id, plain_record, write};
use crate::registry::{RegistryError, TokenRegistry, Write};
use crate::store::{DenialKind, TokenRecord, TokenState};

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> Fixture<R>) {
    batch_writes_are_independent(&empty().await).await;
    batch_applies_writes_to_one_token_in_order(&empty().await).await;
    rejects_later_batch_writes_after_the_actor_is_revoked(&empty().await).await;
    batch_revocations_release_names(&empty().await).await;
}

fn revoked(record: TokenRecord) -> TokenRecord {
    record
        .with_state(TokenState::Revoked)
        .with_updated_at(at(500))
}

async fn batch_writes_are_independent(store: &Fixture<impl TokenRegistry>) {
    let registry = &store.0;
    assert!(registry.update_many(&[]).await.is_empty());
    let owned = target(5).with_roles(["owner"]);
    store.insert([actor(1), owned.clone()]).await;
    store.insert([2, 3, 4, 6, 7].map(target)).await;
    let touched = registry.touch(&[(id(2), at(50))]).await;
    touched.expect("a last use");
    let changes = RecordedChanges::subscribe(registry);
    let renamed = target(4).with_name("renamed");
    let renamed = renamed.with_scopes(["projects:write"]);
    let rotated = target(7).with_digest(digest(70));
    let used = revoked(target(2)).with_last_used_at(at(50));
    // Each record with the result: the stored record, or the reason of the rejection.
    let cases = [
        (revoked(target(2)), Ok(used)),
        (
            revoked(target(3)).with_revision(9),
            Err(RegistryError::RevisionMismatch),
        ),
        (renamed.clone(), Ok(renamed)),
        (revoked(target(99)), Err(RegistryError::UnknownId)),
        (revoked(owned.clone()), Err(escalation_denied())),
        (revoked(target(6)), Ok(revoked(target(6)))),
        (rotated.clone(), Ok(rotated)),
    ];
    let holder = authority(1);
    let writes = cases
        .iter()
        .map(|(record, _)| write_by(record.clone(), &holder));
    let outcomes = registry.update_many(&writes.collect::<Vec<_>>()).await;
    assert_eq!(outcomes.len(), cases.len(), "one result for each write");
    for (outcome, (_, expected)) in outcomes.iter().zip(cases) {
        match expected {
            Ok(record) => {
                let expected = record.with_revision(2);
                let updated = outcome.as_ref();
                let updated =
                    updated.unwrap_or_else(|error| panic!("one of several updates: {error}"));
                assert_same(updated, &expected);
                store.assert_stored(&expected).await;
            }
            Err(reason) => assert_rejected(outcome, &reason, "one of several updates"),
        }
    }
    store.assert_stored(&target(3)).await;
    store.assert_stored(&owned).await;
    for (number, digests) in [(2, &[2][..]), (4, &[4]), (6, &[6]), (7, &[7, 70])] {
        changes.assert_published_among("several updates", number, digests);
    }
}

async fn batch_applies_writes_to_one_token_in_order(store: &Fixture<impl TokenRegistry>) {
    store.insert([1, 2, 3].map(target)).await;
    let records = [
        revoked(target(1)),
        revoked(target(1)),
        revoked(target(1)).with_revision(2).with_updated_at(at(501)),
        target(2).with_name("renamed"),
        revoked(target(2)).with_name("renamed").with_revision(2),
        revoked(target(3)),
        revoked(target(3)).with_revision(2).with_name("renamed"),
    ];
    let outcomes = store.0.update_many(&records.map(write)).await;
    let revision = |outcome: &Result<TokenRecord, RegistryError>| match outcome {
        Ok(record) => Some(record.revision()),
        Err(RegistryError::RevisionMismatch) => None,
        Err(error) => panic!("several updates of one token: {error}"),
    };
    let revisions: Vec<_> = outcomes.iter().map(revision).collect();
    let expected = [Some(2), None, Some(3), Some(2), Some(3), Some(2), Some(3)];
    assert_eq!(
        revisions, expected,
        "each update of one token needs the revision of the update before"
    );
    for number in [1, 2, 3] {
        let record = store.stored(number).await;
        assert_eq!(
            (record.revision(), record.state()),
            (3, TokenState::Revoked),
            "several updates of one token are stored in order"
        );
    }
    assert_eq!(store.stored(1).await.updated_at(), Some(at(501)));
    assert_eq!(store.stored(3).await.name(), "renamed");
}

async fn rejects_later_batch_writes_after_the_actor_is_revoked(
    store: &Fixture<impl TokenRegistry>,
) {
    store.insert([actor(1)]).await;
    store.insert([2, 3, 4].map(target)).await;
    let records = [
        revoked(target(2)),
        revoked(actor(1)),
        revoked(target(3)),
        target(4).with_name("renamed"),
    ];
    let writes = records.map(|record| write_by(record, &authority(1)));
    let outcomes = store.0.update_many(&writes).await;
    let (before, after) = outcomes.split_at(2);
    assert!(
        before.iter().all(Result::is_ok),
        "writes before the actor's own revocation: {outcomes:?}"
    );
    for outcome in after {
        let what = "a write after its actor was revoked by an earlier one of the batch";
        assert_rejected(outcome, &actor_rejected(DenialKind::Revoked), what);
    }
    for number in [3, 4] {
        store.assert_stored(&target(number)).await;
    }
}

async fn batch_revocations_release_names(store: &Fixture<impl TokenRegistry>) {
    let unique = |record: TokenRecord| -> Write { write(record).reserve_name(true) };
    let named = |number, name: &str| plain_record(number).with_name(name);
    for (number, name) in [(1, "a"), (2, "b"), (3, "c")] {
        let write = unique(named(number, name));
        store.insert_write(write, "a free name").await;
    }
    let records = [named(2, "a"), revoked(named(1, "a")), named(3, "a")];
    let outcomes = store.0.update_many(&records.map(unique)).await;
    assert!(
        matches!(&outcomes[..], [Err(RegistryError::NameTaken), Ok(_), Ok(_)]),
        "an earlier write of the batch releases the name: {outcomes:?}"
    );
    let described = store.stored(3).await.with_description("described");
    store.update(described).await;
    let taken = store.0.insert(&unique(named(4, "a"))).await;
    assert_rejected(&taken, &RegistryError::NameTaken, "an insertion");
    let released = unique(named(5, "c"));
    store.insert_write(released, "a released name").await;
}
