//! Rule 7: the authority of a write is checked in the transaction that makes it.

use std::sync::Arc;

use super::calls::{change, insert, stored};
use super::records::{assert_same, at, digest, id, plain_record, write};
use crate::clock::ManualClock;
use crate::digest::TokenDigest;
use crate::principal::Requirement;
use crate::registry::{Authority, AuthorityError, RegistryError, TokenRegistry, Write};
use crate::store::{DenialKind, TokenRecord, TokenState};

/// The time at which every write of this kit is made.
const NOW: i64 = 100;

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> R) {
    rejects_writes_of_inactive_actors(&empty().await).await;
    rejects_writes_beyond_the_rights_of_the_actor(&empty().await).await;
    accepts_the_previous_secret_within_its_grace_period(&empty().await).await;
}

/// Returns a token that may change those of [`target`].
pub(super) fn actor(number: i64) -> TokenRecord {
    plain_record(number)
        .with_roles(["deployer", "manager"])
        .with_scopes(["projects:*"])
}

pub(super) fn target(number: i64) -> TokenRecord {
    plain_record(number)
        .with_roles(["deployer"])
        .with_scopes(["projects:read"])
}

/// Returns the authority of a caller that presented the secret with this digest.
pub(super) fn authority_of(number: i64, presented: TokenDigest) -> Authority {
    Authority::for_registered_token(id(number), presented, Arc::new(ManualClock::new(at(NOW))))
}

/// Returns the authority of the holder of the token that [`actor`] returns.
pub(super) fn authority(number: i64) -> Authority {
    authority_of(number, digest(number))
}

pub(super) fn write_by(record: TokenRecord, authority: &Authority) -> Write {
    write(record).with_authority(Some(authority.clone()))
}

/// Makes one write of each kind to the tokens `base + 1` to `base + 4`, of which all but the first
/// exist, and returns what became of each.
async fn attempt_each_kind(
    registry: &impl TokenRegistry,
    base: i64,
    authority: &Authority,
) -> [(&'static str, Result<(), RegistryError>); 4] {
    // Without rights of their own: what the actor may not touch is what they had.
    let stripped = |record: TokenRecord| {
        let none: [&str; 0] = [];
        write_by(record.with_roles(none).with_scopes(none), authority)
    };
    let inserted = write_by(target(base + 1), authority);
    let inserted = registry.insert(&inserted).await;
    let updated = stripped(stored(registry, base + 2).await);
    let updated = registry.update(&updated).await.map(drop);
    let deleted = write_by(stored(registry, base + 3).await, authority);
    let deleted = registry.delete(&deleted).await;
    let revoked = stored(registry, base + 4).await;
    let revoked = write_by(revoked.with_state(TokenState::Revoked), authority);
    let mut many = registry.update_many(&[revoked]).await;
    let many = many.pop().expect("a result for each write").map(drop);
    [
        ("insert", inserted),
        ("update", updated),
        ("delete", deleted),
        ("update_many", many),
    ]
}

/// Inserts an actor and targets, checks that the actor may write, makes it `end`, and expects that
/// nothing can be written with it afterwards.
async fn assert_refused(
    registry: &impl TokenRegistry,
    what: &str,
    base: i64,
    authority: impl Fn(i64) -> Authority,
    end: Option<TokenRecord>,
    is_expected: impl Fn(&AuthorityError) -> bool,
) {
    let presented = authority(base);
    insert(registry, actor(base)).await;
    for number in [base + 2, base + 3, base + 4, base + 9] {
        insert(registry, target(number)).await;
    }
    let permitted = write_by(target(base + 9).with_name("renamed"), &presented);
    let permitted = registry.update(&permitted).await;
    permitted.expect("a write whose actor holds what it needs");
    if let Some(ended) = end {
        change(registry, ended).await;
    } else {
        let deleted = registry.delete(&write(actor(base))).await;
        deleted.expect("a deletion");
    }
    for (kind, outcome) in attempt_each_kind(registry, base, &presented).await {
        assert!(
            matches!(&outcome, Err(RegistryError::Unauthorized(error)) if is_expected(error)),
            "{kind} with the authority of {what}: {outcome:?}"
        );
    }
    for number in [base + 2, base + 3, base + 4] {
        assert_same(&stored(registry, number).await, &target(number));
    }
    let inserted = registry.get(id(base + 1)).await;
    let inserted = inserted.expect("a store that works");
    assert!(
        inserted.is_none(),
        "{what} inserted a token though it was refused"
    );
}

/// Actors that are no longer accepted, by the number of their token, and why.
fn inactive_actors() -> [(i64, &'static str, TokenRecord, DenialKind); 6] {
    let rotated = |base| actor(base).with_digest(digest(base + 500));
    [
        (
            1000,
            "a revoked token",
            actor(1000).with_state(TokenState::Revoked),
            DenialKind::Revoked,
        ),
        (
            1010,
            "a disabled token",
            actor(1010).with_state(TokenState::Disabled),
            DenialKind::Disabled,
        ),
        (
            1020,
            "an expired token",
            actor(1020).with_expires_at(at(NOW)),
            DenialKind::Expired,
        ),
        (
            1030,
            "a token that is not valid yet",
            actor(1030).with_not_before(at(NOW + 1)),
            DenialKind::NotYetValid,
        ),
        (
            1040,
            "a secret that was rotated away",
            rotated(1040),
            DenialKind::WrongDigest,
        ),
        (
            1050,
            "a secret whose grace is over",
            rotated(1050).with_previous_digest((digest(1050), at(NOW))),
            DenialKind::Superseded,
        ),
    ]
}

async fn rejects_writes_of_inactive_actors(registry: &impl TokenRegistry) {
    for (base, what, ended, denial) in inactive_actors() {
        let is_expected =
            |error: &AuthorityError| *error == AuthorityError::ActorTokenRejected(denial);
        assert_refused(registry, what, base, authority, Some(ended), is_expected).await;
    }
    let is_unknown =
        |error: &AuthorityError| *error == AuthorityError::ActorTokenRejected(DenialKind::Unknown);
    assert_refused(
        registry,
        "a deleted token",
        2000,
        authority,
        None,
        is_unknown,
    )
    .await;
}

async fn rejects_writes_beyond_the_rights_of_the_actor(registry: &impl TokenRegistry) {
    let managing = |base| {
        let requirement = Requirement::any_role(["manager"]);
        authority(base).with_requirement(Some(Arc::new(requirement)))
    };
    let without = |base, roles: &[&str], scopes: &[&str]| {
        Some(actor(base).with_roles(roles).with_scopes(scopes))
    };
    let (what, ended) = (
        "a token that lost a role the call requires",
        without(1000, &["deployer"], &["projects:*"]),
    );
    let is_unmet = |error: &AuthorityError| matches!(error, AuthorityError::RequirementNotMet(_));
    assert_refused(registry, what, 1000, managing, ended, is_unmet).await;
    let (what, ended) = (
        "a token that lost a role of its targets",
        without(1010, &["manager"], &["projects:*"]),
    );
    let is_lacking =
        |error: &AuthorityError| matches!(error, AuthorityError::EscalationDenied { .. });
    assert_refused(registry, what, 1010, managing, ended, is_lacking).await;
    let (what, ended) = (
        "a token that lost a scope of its targets",
        without(1020, &["manager", "deployer"], &["audit:*"]),
    );
    assert_refused(registry, what, 1020, managing, ended, is_lacking).await;

    // What the target would have afterwards counts as well as what it had.
    let holder = authority(1000);
    for (number, granted) in [
        (3001, plain_record(3001).with_roles(["owner"])),
        (3002, plain_record(3002).with_scopes(["**"])),
    ] {
        insert(registry, plain_record(number)).await;
        let granted = write_by(granted, &holder);
        let mut outcomes = registry.update_many(std::slice::from_ref(&granted)).await;
        outcomes.push(registry.update(&granted).await);
        for outcome in outcomes {
            assert!(
                matches!(&outcome, Err(RegistryError::Unauthorized(error)) if is_lacking(error)),
                "an update that grants more than the actor has: {outcome:?}"
            );
        }
        assert_same(&stored(registry, number).await, &plain_record(number));
    }
}

async fn accepts_the_previous_secret_within_its_grace_period(registry: &impl TokenRegistry) {
    let rotated = |number: i64, to: i64| {
        let record = actor(number).with_digest(digest(to));
        record.with_previous_digest((digest(number), at(NOW + 1)))
    };
    insert(registry, actor(1)).await;
    insert(registry, target(2)).await;
    let own = change(registry, rotated(1, 11)).await;
    let previous = authority(1);
    let updated = write_by(target(2).with_name("renamed"), &previous);
    let updated = registry.update(&updated).await;
    updated.expect("a previous secret is accepted until its grace ends");

    let again = own.with_digest(digest(12));
    let again = again.with_previous_digest((digest(11), at(NOW + 1)));
    let refused = registry.update(&write_by(again.clone(), &previous)).await;
    let expected = AuthorityError::PreviousSecret;
    assert!(
        matches!(&refused, Err(RegistryError::Unauthorized(error)) if *error == expected),
        "a rotation by the previous secret without a condition: {refused:?}"
    );
    let conditional = previous.with_condition(true);
    let recovered = registry.update(&write_by(again, &conditional)).await;
    recovered.expect("a rotation by the previous secret at a named revision");
    let ended = write_by(stored(registry, 2).await, &conditional);
    let ended = registry.update(&ended).await;
    assert!(
        matches!(ended, Err(RegistryError::Unauthorized(_))),
        "a secret from before the last rotation but one: {ended:?}"
    );
}
