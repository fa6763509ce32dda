//! Rule 7: the authority of a write is checked in the transaction that makes it.

use std::sync::Arc;

use super::fixture::{Fixture, assert_rejected};
use super::records::{at, digest, id, plain_record, write};
use crate::clock::ManualClock;
use crate::digest::TokenDigest;
use crate::principal::Requirement;
use crate::registry::{
    ActorToken, Authority, AuthorityError, OwnerRights, RegistryError, TokenRegistry, Write,
};
use crate::store::DenialKind::{
    self, Disabled, Expired, NotYetValid, Revoked, Superseded, Unknown, WrongDigest,
};
use crate::store::{TokenRecord, TokenState};

/// The time at which every write is authorized.
const NOW: i64 = 100;

const NONE: [&str; 0] = [];

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> Fixture<R>) {
    for lost_authority in lost_authorities() {
        rejects_writes_without_authority(&empty().await, lost_authority).await;
    }
    rejects_updates_that_grant_more(&empty().await).await;
    accepts_the_previous_secret_within_its_grace_period(&empty().await).await;
    confines_an_owner_to_its_tokens(&empty().await).await;
    confines_the_holder_of_an_owned_token(&empty().await).await;
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
    let actor = ActorToken::Registered(id(number), presented);
    Authority::new(actor, Arc::new(ManualClock::new(at(NOW))))
}

/// Returns the authority of the holder of the token that [`actor`] returns.
pub(super) fn authority(number: i64) -> Authority {
    authority_of(number, digest(number))
}

pub(super) fn write_by(record: TokenRecord, authority: &Authority) -> Write {
    write(record).with_authority(Some(authority.clone()))
}

/// The error of a write whose actor lacks a role or scope of the target.
pub(super) fn escalation_denied() -> RegistryError {
    let missing = Vec::new();
    AuthorityError::EscalationDenied { missing }.into()
}

/// The error of a write whose actor is no longer accepted.
pub(super) fn actor_rejected(kind: DenialKind) -> RegistryError {
    AuthorityError::ActorTokenRejected(kind).into()
}

fn manager() -> Arc<Requirement> {
    Arc::new(Requirement::any_role(["manager"]))
}

/// How an actor loses its authority: a description, the new record of its token (`None` if it is
/// deleted), and the error of its writes.
type LostAuthority = (&'static str, Option<TokenRecord>, RegistryError);

/// Returns the ways in which the actor 1 loses its authority.
fn lost_authorities() -> [LostAuthority; 10] {
    let revoked = actor(1).with_state(TokenState::Revoked);
    let disabled = actor(1).with_state(TokenState::Disabled);
    let expired = actor(1).with_expires_at(at(NOW));
    let early = actor(1).with_not_before(at(NOW + 1));
    let rotated = actor(1).with_digest(digest(11));
    let superseded = rotated.clone().with_previous_digest((digest(1), at(NOW)));
    let not_manager = actor(1).with_roles(["deployer"]);
    let not_deployer = actor(1).with_roles(["manager"]);
    let other_scope = actor(1).with_scopes(["audit:*"]);
    let rejected = actor_rejected;
    let unmet = AuthorityError::RequirementNotMet(manager()).into();
    let denied = escalation_denied;
    [
        ("a revoked token", Some(revoked), rejected(Revoked)),
        ("a disabled token", Some(disabled), rejected(Disabled)),
        ("an expired token", Some(expired), rejected(Expired)),
        (
            "a token before its start",
            Some(early),
            rejected(NotYetValid),
        ),
        ("a rotated secret", Some(rotated), rejected(WrongDigest)),
        (
            "a superseded secret",
            Some(superseded),
            rejected(Superseded),
        ),
        ("a deleted token", None, rejected(Unknown)),
        ("a token without a required role", Some(not_manager), unmet),
        (
            "a token without a role of its targets",
            Some(not_deployer),
            denied(),
        ),
        (
            "a token without a scope of its targets",
            Some(other_scope),
            denied(),
        ),
    ]
}

/// Checks that the actor may write, takes its authority away, and checks that it can no longer write.
async fn rejects_writes_without_authority(
    store: &Fixture<impl TokenRegistry>,
    (what, record, reason): LostAuthority,
) {
    let authority = authority(1).with_requirement(Some(manager()));
    let by_actor = |record| write_by(record, &authority);
    let targets = [3, 4, 5, 6].map(target);
    store.insert([actor(1)]).await;
    store.insert(targets.clone()).await;
    let [updated, deleted, revoked, renamed] = targets;
    let permitted = by_actor(renamed.with_name("renamed"));
    store.update_write(permitted, "sufficient rights").await;
    match record {
        Some(record) => drop(store.update(record).await),
        None => store.delete(actor(1)).await,
    }

    let registry = &store.0;
    // The new record has no rights, so that the rights of the stored record decide.
    let update = by_actor(updated.clone().with_roles(NONE).with_scopes(NONE));
    let batch = [by_actor(revoked.clone().with_state(TokenState::Revoked))];
    let mut batch = registry.update_many(&batch).await;
    let inserted = registry.insert(&by_actor(target(2))).await;
    for (method, outcome) in [
        ("insert", inserted),
        ("update", registry.update(&update).await.map(drop)),
        ("delete", registry.delete(&by_actor(deleted.clone())).await),
        ("update_many", batch.pop().expect("an outcome").map(drop)),
    ] {
        let what = format!("{method} with the authority of {what}");
        assert_rejected(&outcome, &reason, what);
    }
    for unchanged in [updated, deleted, revoked] {
        store.assert_stored(&unchanged).await;
    }
    store.assert_absent(2).await;
}

async fn rejects_updates_that_grant_more(store: &Fixture<impl TokenRegistry>) {
    store.insert([actor(1)]).await;
    for granted in [
        plain_record(2).with_roles(["owner"]),
        plain_record(3).with_scopes(["**"]),
    ] {
        let before = granted.clone().with_roles(NONE).with_scopes(NONE);
        store.insert([before.clone()]).await;
        let (granted, reason) = (write_by(granted, &authority(1)), escalation_denied());
        let what = "an update that grants more than the actor has";
        store.assert_update_rejected(&granted, &reason, what).await;
        store.assert_stored(&before).await;
    }
}

async fn accepts_the_previous_secret_within_its_grace_period(store: &Fixture<impl TokenRegistry>) {
    let rotated = |record: TokenRecord, from, to| {
        let record = record.with_digest(digest(to));
        record.with_previous_digest((digest(from), at(NOW + 1)))
    };
    store.insert([actor(1), target(2)]).await;
    let own = store.update(rotated(actor(1), 1, 11)).await;
    let previous = authority(1);
    let updated = write_by(target(2).with_name("renamed"), &previous);
    store.update_write(updated, "a previous secret").await;

    let again = rotated(own, 11, 12);
    let unconditional = store.0.update(&write_by(again.clone(), &previous)).await;
    let what = "a rotation by the previous secret without a condition";
    assert_rejected(&unconditional, &AuthorityError::PreviousSecret.into(), what);
    let conditional = previous.with_condition(true);
    let again = write_by(again, &conditional);
    store.update_write(again, "a conditional rotation").await;
    let stale = write_by(store.stored(2).await, &conditional);
    let stale = store.0.update(&stale).await;
    let reason = actor_rejected(WrongDigest);
    assert_rejected(&stale, &reason, "the secret before the previous one");
}

async fn confines_an_owner_to_its_tokens(store: &Fixture<impl TokenRegistry>) {
    let owner = OwnerRights {
        id: "user:1".into(),
        roles: actor(1).roles().clone(),
        scopes: actor(1).scopes().clone(),
    };
    let clock = Arc::new(ManualClock::new(at(NOW)));
    let authority = Authority::new(ActorToken::Owner(owner), clock);
    is_confined(store, &authority).await;
    let exceeding = plain_record(9).with_owner("user:1").with_roles(["owner"]);
    store.insert([exceeding.clone()]).await;
    let renamed = write_by(exceeding.clone().with_name("renamed"), &authority);
    let what = "an owner's change of a token that exceeds its rights";
    store
        .assert_update_rejected(&renamed, &escalation_denied(), what)
        .await;
    let revoked = write_by(exceeding.with_state(TokenState::Revoked), &authority);
    store.update_write(revoked, "the owner's revocation").await;
}

/// The stored record of the holder decides, whatever its scopes.
async fn confines_the_holder_of_an_owned_token(store: &Fixture<impl TokenRegistry>) {
    let admin = actor(1).with_scopes(["**"]);
    store.insert([admin.clone()]).await;
    store.update(admin.with_owner("user:1")).await;
    is_confined(store, &authority(1)).await;
}

/// Checks that an actor with the rights of [`actor`] writes only tokens of `user:1`.
async fn is_confined(store: &Fixture<impl TokenRegistry>, authority: &Authority) {
    let own = target(3).with_owner("user:1");
    let foreign = target(4).with_owner("user:2");
    let unowned = target(5);
    store
        .insert([own.clone(), foreign.clone(), unowned.clone()])
        .await;
    let inserted = write_by(target(6).with_owner("user:1"), authority);
    store.insert_write(inserted, "a token of the owner").await;
    let own = store
        .update_write(write_by(own.with_name("renamed"), authority), "its token")
        .await;

    let (registry, reason) = (&store.0, RegistryError::UnknownId);
    for record in [&foreign, &unowned] {
        let what = "of a token that is not the owner's";
        let taken = write_by(record.clone().with_owner("user:1"), authority);
        store.assert_update_rejected(&taken, &reason, what).await;
        let revoked = write_by(record.clone().with_state(TokenState::Revoked), authority);
        store.assert_update_rejected(&revoked, &reason, what).await;
        let batch = registry.update_many(&[revoked]).await.pop();
        let batch = batch.expect("an outcome").map(drop);
        assert_rejected(&batch, &reason, format!("update_many {what}"));
        let deleted = registry.delete(&write_by(record.clone(), authority)).await;
        assert_rejected(&deleted, &reason, format!("delete {what}"));
        store.assert_stored(record).await;
    }
    for given in [Some("user:2"), None] {
        let what = "a transfer to another owner";
        let given_away = write_by(own.clone().with_owner(given), authority);
        store
            .assert_update_rejected(&given_away, &reason, what)
            .await;
        let inserted = write_by(target(7).with_owner(given), authority);
        let inserted = registry.insert(&inserted).await;
        assert_rejected(&inserted, &reason, "an insertion for another owner");
        store.assert_absent(7).await;
    }
    let deleted = registry.delete(&write_by(own, authority)).await;
    deleted.expect("a deletion of the owner's token");
}
