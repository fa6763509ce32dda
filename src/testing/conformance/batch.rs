//! `update_many`: each write as `update` would make it.

use super::authority::{actor, authority, target, write_by};
use super::calls::{change, expect_insert, insert, stored};
use super::notifications::RecordedChanges;
use super::records::{assert_same, at, digest, id, plain_record, write};
use crate::registry::{AuthorityError, RegistryError, TokenRegistry, Write};
use crate::store::{DenialKind, TokenRecord, TokenState};

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> R) {
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

/// Checks that the write was made, and is what is returned and stored.
async fn assert_made(registry: &impl TokenRegistry, outcome: &Outcome, expected: &TokenRecord) {
    let made = outcome.as_ref();
    let made = made.unwrap_or_else(|error| panic!("one of several updates: {error}"));
    assert_same(made, expected);
    let found = registry.get(expected.id()).await;
    let found = found.expect("a store that works");
    assert_same(&found.expect("a token that was updated"), expected);
}

type Outcome = Result<TokenRecord, RegistryError>;

fn assert_refused(stale: &Outcome, unknown: &Outcome, foreign: &Outcome) {
    assert!(
        matches!(stale, Err(RegistryError::RevisionMismatch)),
        "another revision among good ones: {stale:?}"
    );
    assert!(
        matches!(unknown, Err(RegistryError::UnknownId)),
        "an unknown id among good ones: {unknown:?}"
    );
    assert!(
        matches!(
            foreign,
            Err(RegistryError::Unauthorized(
                AuthorityError::EscalationDenied { .. }
            ))
        ),
        "a token that the actor may not change among others: {foreign:?}"
    );
}

async fn batch_writes_are_independent(registry: &impl TokenRegistry) {
    assert!(registry.update_many(&[]).await.is_empty());
    insert(registry, actor(1)).await;
    for number in [2, 3, 4, 6, 7] {
        insert(registry, target(number)).await;
    }
    insert(registry, target(5).with_roles(["owner"])).await;
    let touched = registry.touch(&[(id(2), at(50))]).await;
    touched.expect("a use is noted");
    let seen = RecordedChanges::subscribe(registry);
    let holder = authority(1);
    let by = |record: TokenRecord| write_by(record, &holder);
    let renamed = target(4)
        .with_name("renamed")
        .with_scopes(["projects:write"]);
    let rotated = target(7).with_digest(digest(70));
    let outcomes = registry
        .update_many(&[
            by(revoked(target(2))),
            by(revoked(target(3)).with_revision(9)),
            by(renamed.clone()),
            by(revoked(target(99))),
            by(revoked(target(5)).with_roles(["owner"])),
            by(revoked(target(6))),
            by(rotated.clone()),
        ])
        .await;
    let [first, stale, third, unknown, foreign, sixth, last] = &outcomes[..] else {
        panic!("seven updates have {} results", outcomes.len());
    };
    let expected = revoked(target(2)).with_last_used_at(at(50));
    assert_made(registry, first, &expected.with_revision(2)).await;
    assert_made(registry, third, &renamed.with_revision(2)).await;
    assert_made(registry, sixth, &revoked(target(6)).with_revision(2)).await;
    assert_made(registry, last, &rotated.with_revision(2)).await;
    assert_refused(stale, unknown, foreign);
    assert_same(&stored(registry, 3).await, &target(3));
    assert_same(&stored(registry, 5).await, &target(5).with_roles(["owner"]));
    for (number, digests) in [
        (2, &[2][..]),
        (4, &[4][..]),
        (6, &[6][..]),
        (7, &[7, 70][..]),
    ] {
        seen.assert_published_among("several updates", number, digests);
    }
}

async fn batch_applies_writes_to_one_token_in_order(registry: &impl TokenRegistry) {
    for number in [1, 2, 3] {
        insert(registry, target(number)).await;
    }
    let outcomes = registry
        .update_many(&[
            write(revoked(target(1))),
            write(revoked(target(1))),
            write(revoked(target(1)).with_revision(2).with_updated_at(at(501))),
            write(target(2).with_name("renamed")),
            write(revoked(target(2)).with_name("renamed").with_revision(2)),
            write(revoked(target(3))),
            write(revoked(target(3)).with_revision(2).with_name("renamed")),
        ])
        .await;
    let revisions: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Ok(record) => Some(record.revision()),
            Err(RegistryError::RevisionMismatch) => None,
            Err(error) => panic!("an update of a token that is updated twice: {error}"),
        })
        .collect();
    let expected = [Some(2), None, Some(3), Some(2), Some(3), Some(2), Some(3)];
    assert_eq!(
        revisions, expected,
        "each of several updates of one token needs the revision that the one before left"
    );
    for number in [1, 2, 3] {
        let record = stored(registry, number).await;
        assert_eq!(
            (record.revision(), record.state()),
            (3, TokenState::Revoked),
            "several updates of one token are stored one after the other"
        );
    }
    assert_eq!(stored(registry, 1).await.updated_at(), Some(at(501)));
    assert_eq!(stored(registry, 3).await.name(), "renamed");
}

async fn rejects_later_batch_writes_after_the_actor_is_revoked(registry: &impl TokenRegistry) {
    insert(registry, actor(1)).await;
    for number in [2, 3, 4] {
        insert(registry, target(number)).await;
    }
    let holder = authority(1);
    let outcomes = registry
        .update_many(&[
            write_by(revoked(target(2)), &holder),
            write_by(revoked(actor(1)), &holder),
            write_by(revoked(target(3)), &holder),
            write_by(target(4).with_name("renamed"), &holder),
        ])
        .await;
    assert!(
        matches!(&outcomes[..2], [Ok(_), Ok(_)]),
        "writes before the actor's own revocation: {outcomes:?}"
    );
    for outcome in &outcomes[2..] {
        assert!(
            matches!(
                outcome,
                Err(RegistryError::Unauthorized(
                    AuthorityError::ActorTokenRejected(DenialKind::Revoked)
                ))
            ),
            "a write after its actor was revoked by an earlier one of the call: {outcome:?}"
        );
    }
    for number in [3, 4] {
        assert_same(&stored(registry, number).await, &target(number));
    }
}

async fn batch_revocations_release_names(registry: &impl TokenRegistry) {
    let unique = |record: TokenRecord| -> Write { write(record).with_unique_name(true) };
    let named = |number, name: &str| plain_record(number).with_name(name);
    for (number, name) in [(1, "a"), (2, "b"), (3, "c")] {
        expect_insert(registry, &unique(named(number, name)), "a free name").await;
    }
    let outcomes = registry
        .update_many(&[
            unique(named(2, "a")),
            unique(revoked(named(1, "a"))),
            unique(named(3, "a")),
        ])
        .await;
    assert!(
        matches!(&outcomes[..], [Err(RegistryError::NameTaken), Ok(_), Ok(_)]),
        "a name is free once its token is revoked by an earlier write: {outcomes:?}"
    );
    let described = stored(registry, 3).await.with_description("described");
    change(registry, described).await;
    let taken = registry.insert(&unique(named(4, "a"))).await;
    assert!(matches!(taken, Err(RegistryError::NameTaken)), "{taken:?}");
    expect_insert(
        registry,
        &unique(named(5, "c")),
        "the name of a token that was renamed",
    )
    .await;
}
