//! Rule 8: the last token that may administer is not ended by chance.

use futures::future::join;

use super::authority::{actor, authority, write_by};
use super::calls::{insert, stored};
use super::records::{assert_same, at, id, plain_record, write};
use crate::registry::{AuthorityError, RegistryError, TokenRegistry, Write};
use crate::store::{ADMIN_SCOPES, TokenRecord, TokenState};

/// The time at which an administrator must remain.
const NOW: i64 = 100;

const ROUNDS: i64 = 40;

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> R) {
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

fn assert_last<T: std::fmt::Debug>(outcome: &Result<T, RegistryError>, what: &str) {
    assert!(
        matches!(outcome, Err(RegistryError::LastAdmin)),
        "the last administrator was ended by {what}: {outcome:?}"
    );
}

async fn assert_is_last(registry: &impl TokenRegistry, number: i64, beside: &str) {
    let record = stored(registry, number).await;
    let none: [&str; 0] = [];
    for (what, next) in [
        (
            "a revocation",
            record.clone().with_state(TokenState::Revoked),
        ),
        ("disabling", record.clone().with_state(TokenState::Disabled)),
        ("fewer scopes", record.clone().with_scopes(none)),
        ("an expiry", record.clone().with_expires_at(at(NOW + 5))),
    ] {
        let what = format!("{what} beside {beside}");
        let next = checked_write(next);
        assert_last(&registry.update(&next).await, &what);
        for outcome in registry.update_many(&[next]).await {
            assert_last(&outcome, &what);
        }
    }
    let deleted = registry.delete(&checked_write(record.clone())).await;
    assert_last(&deleted, "a deletion");
    assert_same(&stored(registry, number).await, &record);
}

async fn counts_each_admin_scope(registry: &impl TokenRegistry) {
    insert(registry, admin(1)).await;
    assert_is_last(registry, 1, "no other token").await;
    for (number, scope) in (2..).zip(ADMIN_SCOPES) {
        let other = plain_record(number)
            .with_scopes(["projects:*", scope])
            .with_not_before(at(NOW))
            .with_expires_at(at(NOW + 1));
        insert(registry, other).await;
        let ended = revocation(stored(registry, number - 1).await);
        let ended = registry.update(&ended).await;
        ended.unwrap_or_else(|error| {
            panic!("a token with the scope {scope} may administer, and was not counted: {error}")
        });
        assert_is_last(registry, number, "revoked tokens").await;
    }
    // Without the limit, the last one is ended as well.
    let last = write(stored(registry, 6).await.with_state(TokenState::Revoked));
    registry
        .update(&last)
        .await
        .expect("a write without limits");
}

async fn ignores_tokens_that_cannot_administer(registry: &impl TokenRegistry) {
    insert(registry, admin(1)).await;
    let others = [
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
            plain_record(6).with_scopes(["*:*", "*:admin", "service-tokens:read"]),
        ),
        (
            "a token with a role of that name",
            plain_record(7)
                .with_roles(["service-tokens:admin", "*"])
                .with_label("*", "service-tokens:admin")
                .with_name("**"),
        ),
    ];
    for (what, other) in others {
        insert(registry, other).await;
        assert_is_last(registry, 1, what).await;
    }
    // A change of another token is not held back by it.
    let other = write(stored(registry, 7).await.with_name("renamed"));
    registry.update(&other).await.expect("an update");
}

async fn checks_the_authority_before_the_last_admin(registry: &impl TokenRegistry) {
    insert(registry, admin(1)).await;
    insert(registry, actor(2)).await;
    let revoked = admin(1).with_state(TokenState::Revoked);
    let revoked = write_by(revoked, &authority(2)).with_last_admin_check(at(NOW));
    let mut outcomes = registry.update_many(std::slice::from_ref(&revoked)).await;
    outcomes.push(registry.update(&revoked).await);
    for outcome in outcomes {
        assert!(
            matches!(
                outcome,
                Err(RegistryError::Unauthorized(
                    AuthorityError::EscalationDenied { .. }
                ))
            ),
            "an actor without authority for the change gets no other error: {outcome:?}"
        );
    }
}

/// Ends an administrator, in one of the ways that a registry offers.
async fn end(registry: &impl TokenRegistry, number: i64, way: i64) -> Result<(), RegistryError> {
    let record = stored(registry, number).await;
    tokio::task::yield_now().await;
    match way % 3 {
        0 => registry.update(&revocation(record)).await.map(drop),
        1 => registry.delete(&checked_write(record)).await,
        _ => {
            let mut outcomes = registry.update_many(&[revocation(record)]).await;
            outcomes.pop().expect("a result for each write").map(drop)
        }
    }
}

async fn concurrent_revocations_keep_one_admin(registry: &impl TokenRegistry) {
    for round in 0..ROUNDS {
        let (first, second) = (10 + 2 * round, 11 + 2 * round);
        insert(registry, admin(first)).await;
        insert(registry, admin(second)).await;
        let outcomes = join(
            end(registry, first, round),
            end(registry, second, round / 3),
        );
        let (left, refused) = match outcomes.await {
            (Ok(()), Err(error)) => (second, error),
            (Err(error), Ok(())) => (first, error),
            outcomes => panic!("of the last two administrators one must remain: {outcomes:?}"),
        };
        assert_last::<()>(&Err(refused), "a change beside another");
        let left = registry.get(id(left)).await.expect("a store that works");
        let left = left.expect("the one that was not ended");
        assert!(left.may_administer(at(NOW)), "both administrators ended");
        let cleared = registry.delete(&write(left)).await;
        cleared.expect("a write without limits");
    }
}
