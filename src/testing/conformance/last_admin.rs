//! Rule 8: the last token that may administer is not removed unintentionally.

use futures_util::future::join;

use super::authority::{actor, authority, escalation_denied, write_by};
use super::fixture::{Fixture, assert_rejected};
use super::records::{at, plain_record, write};
use crate::registry::{RegistryError, TokenRegistry, Write};
use crate::store::{ADMIN_SCOPES, TokenRecord, TokenState};

/// The time at which an administrator must remain.
const NOW: i64 = 100;

const ROUNDS: i64 = 40;

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> Fixture<R>) {
    counts_each_admin_scope(&empty().await).await;
    ignores_tokens_that_cannot_administer(&empty().await).await;
    checks_the_authority_before_the_last_admin(&empty().await).await;
    concurrent_revocations_keep_one_admin(&empty().await).await;
}

fn admin(number: i64) -> TokenRecord {
    plain_record(number).with_scopes(["service-tokens:admin"])
}

fn revocation(record: TokenRecord) -> Write {
    checked_write(record.with_state(TokenState::Revoked))
}

fn checked_write(record: TokenRecord) -> Write {
    write(record).with_last_admin_check(at(NOW))
}

async fn assert_is_last(store: &Fixture<impl TokenRegistry>, number: i64, beside: &str) {
    let record = store.stored(number).await;
    let (none, reason): ([&str; 0], _) = ([], RegistryError::LastAdmin);
    let what = |change| format!("the last administrator, beside {beside}, removed by {change}");
    for (change, next) in [
        (
            "a revocation",
            record.clone().with_state(TokenState::Revoked),
        ),
        ("disabling", record.clone().with_state(TokenState::Disabled)),
        ("fewer scopes", record.clone().with_scopes(none)),
        ("an expiry", record.clone().with_expires_at(at(NOW + 5))),
    ] {
        let (next, what) = (checked_write(next), what(change));
        store.assert_update_rejected(&next, &reason, &what).await;
    }
    let deleted = store.0.delete(&checked_write(record.clone())).await;
    assert_rejected(&deleted, &reason, what("a deletion"));
    store.assert_stored(&record).await;
}

async fn counts_each_admin_scope(store: &Fixture<impl TokenRegistry>) {
    store.insert([admin(1)]).await;
    assert_is_last(store, 1, "no other token").await;
    for (number, scope) in (2..).zip(ADMIN_SCOPES) {
        let other = plain_record(number)
            .with_scopes(["projects:*", scope])
            .with_not_before(at(NOW))
            .with_expires_at(at(NOW + 1));
        store.insert([other]).await;
        let what = format!("a revocation beside a token with the scope {scope}");
        let write = revocation(store.stored(number - 1).await);
        store.update_write(write, &what).await;
        assert_is_last(store, number, "revoked tokens").await;
    }
    // A write without the check may remove the last one.
    let last = store.stored(6).await;
    store.update(last.with_state(TokenState::Revoked)).await;
}

async fn ignores_tokens_that_cannot_administer(store: &Fixture<impl TokenRegistry>) {
    store.insert([admin(1)]).await;
    let other_scopes = ["*:*", "*:admin", "service-tokens:read"];
    let named_like_scopes = plain_record(7)
        .with_roles(["service-tokens:admin", "*"])
        .with_label("*", "service-tokens:admin")
        .with_name("**");
    for (what, other) in [
        ("an expired token", admin(2).with_expires_at(at(NOW))),
        (
            "a disabled token",
            admin(3).with_state(TokenState::Disabled),
        ),
        ("a revoked token", admin(4).with_state(TokenState::Revoked)),
        (
            "a token that is not valid yet",
            admin(5).with_not_before(at(NOW + 1)),
        ),
        (
            "a token with the scope *:*",
            plain_record(6).with_scopes(other_scopes),
        ),
        ("a token with a role of that name", named_like_scopes),
        ("a token with an owner", admin(8).with_owner("user:1")),
    ] {
        store.insert([other]).await;
        assert_is_last(store, 1, what).await;
    }
    // The last administrator does not block updates of other tokens.
    let other = store.stored(7).await.with_name("renamed");
    store.update(other).await;
}

async fn checks_the_authority_before_the_last_admin(store: &Fixture<impl TokenRegistry>) {
    store.insert([admin(1), actor(2)]).await;
    let revoked = admin(1).with_state(TokenState::Revoked);
    let revoked = write_by(revoked, &authority(2)).with_last_admin_check(at(NOW));
    let (reason, what) = (escalation_denied(), "an actor without authority");
    store.assert_update_rejected(&revoked, &reason, what).await;
}

/// Removes an administrator by the method with this index.
async fn remove(
    store: &Fixture<impl TokenRegistry>,
    number: i64,
    method: i64,
) -> Result<(), RegistryError> {
    let record = store.stored(number).await;
    tokio::task::yield_now().await;
    match method % 3 {
        0 => store.0.update(&revocation(record)).await.map(drop),
        1 => store.0.delete(&checked_write(record)).await,
        _ => {
            let mut outcomes = store.0.update_many(&[revocation(record)]).await;
            outcomes.pop().expect("an outcome").map(drop)
        }
    }
}

async fn concurrent_revocations_keep_one_admin(store: &Fixture<impl TokenRegistry>) {
    for round in 0..ROUNDS {
        let (first, second) = (10 + 2 * round, 11 + 2 * round);
        store.insert([first, second].map(admin)).await;
        let outcomes = join(
            remove(store, first, round),
            remove(store, second, round / 3),
        );
        let (remaining, rejected) = match outcomes.await {
            (Ok(()), rejected @ Err(_)) => (second, rejected),
            (rejected @ Err(_), Ok(())) => (first, rejected),
            outcomes => panic!("not one of two administrators was removed: {outcomes:?}"),
        };
        assert_rejected(&rejected, &RegistryError::LastAdmin, "a concurrent removal");
        let remaining = store.stored(remaining).await;
        assert!(
            remaining.may_administer(at(NOW)),
            "both administrators were removed"
        );
        store.delete(remaining).await;
    }
}
