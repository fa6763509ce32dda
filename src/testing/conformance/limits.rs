use super::fixture::{Fixture, assert_rejected};
use super::records::{plain_record, write};
use crate::registry::{RegistryError, TokenRegistry, Write};
use crate::store::TokenState;

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> Fixture<R>) {
    unique_names_are_exclusive(&empty().await).await;
    released_names_can_be_reused(&empty().await).await;
    insert_enforces_the_token_limit(&empty().await).await;
    names_are_exclusive_per_owner(&empty().await).await;
    insert_enforces_the_limit_of_an_owner(&empty().await).await;
}

/// Writes a token with a name that must be unique.
fn unique(number: i64, name: &str) -> Write {
    write(plain_record(number).with_name(name)).reserve_name(true)
}

async fn unique_names_are_exclusive(store: &Fixture<impl TokenRegistry>) {
    let reason = RegistryError::NameTaken;
    store.insert_write(unique(1, "a"), "a free name").await;
    let taken = store.0.insert(&unique(2, "a")).await;
    assert_rejected(&taken, &reason, "an insertion");
    store.assert_absent(2).await;
    store.insert_write(unique(2, "b"), "a free name").await;
    let taken = store.0.update(&unique(2, "a")).await;
    assert_rejected(&taken, &reason, "an update");
    store.update_write(unique(1, "a"), "its own name").await;
    store.insert_write(unique(3, "A"), "another case").await;
    store.insert([plain_record(4).with_name("a")]).await;
}

async fn released_names_can_be_reused(store: &Fixture<impl TokenRegistry>) {
    store.insert_write(unique(1, "a"), "a free name").await;
    store.insert_write(unique(2, "b"), "a free name").await;
    let renamed = store.update_write(unique(1, "c"), "a free name").await;
    let second = store.update_write(unique(2, "a"), "a released name").await;
    let revoked = write(second.with_state(TokenState::Revoked)).reserve_name(true);
    store.update_write(revoked, "a revocation").await;
    store.insert_write(unique(5, "a"), "a revoked name").await;
    store.delete(renamed).await;
    store.insert_write(unique(6, "c"), "a deleted name").await;
}

async fn insert_enforces_the_token_limit(store: &Fixture<impl TokenRegistry>) {
    let limited = |number| write(plain_record(number)).with_max_tokens(2);
    let assert_full = async |write: Write| {
        let outcome = store.0.insert(&write).await;
        assert_rejected(&outcome, &RegistryError::TooManyTokens, "an insertion");
    };
    assert_full(limited(1).with_max_tokens(0)).await;
    store.insert_write(limited(1), "below the limit").await;
    store.insert_write(limited(2), "below the limit").await;
    assert_full(limited(3)).await;
    store.assert_absent(3).await;
    let disabled = write(plain_record(1).with_state(TokenState::Disabled)).with_max_tokens(2);
    let disabled = store.update_write(disabled, "an update").await;
    assert_full(limited(3)).await;
    store.update(disabled.with_state(TokenState::Revoked)).await;
    store.insert_write(limited(3), "below the limit").await;
    assert_full(limited(4)).await;
    store.insert([plain_record(4)]).await;
}

async fn names_are_exclusive_per_owner(store: &Fixture<impl TokenRegistry>) {
    let owned = |number, owner| {
        write(plain_record(number).with_name("a").with_owner(owner)).reserve_name(true)
    };
    let reason = RegistryError::NameTaken;
    store.insert_write(unique(1, "a"), "a free name").await;
    let first = owned(2, "user:1");
    store.insert_write(first, "the name of no owner").await;
    let second = owned(3, "user:2");
    store
        .insert_write(second, "the name of another owner")
        .await;
    let taken = store.0.insert(&owned(4, "user:2")).await;
    assert_rejected(&taken, &reason, "an insertion for the same owner");
    let taken = store.0.update(&owned(2, "user:2")).await;
    assert_rejected(&taken, &reason, "a change of the owner");
    let kept = write(store.stored(3).await.with_description("x"));
    store.update_write(kept, "a change without the limit").await;
    let taken = store.0.insert(&owned(4, "user:2")).await;
    assert_rejected(&taken, &reason, "a name that its token keeps");
    let moved = write(store.stored(3).await.with_owner("user:3"));
    store.update_write(moved, "a change of the owner").await;
    let released = owned(4, "user:2");
    store
        .insert_write(released, "a name that its token left")
        .await;
}

async fn insert_enforces_the_limit_of_an_owner(store: &Fixture<impl TokenRegistry>) {
    let limited = |number, owner| {
        let record = plain_record(number).with_owner(owner);
        write(record).with_max_tokens_of_owner(2)
    };
    store.insert((20..25).map(plain_record)).await;
    store
        .insert_write(limited(1, "user:1"), "below the limit")
        .await;
    store
        .insert_write(limited(2, "user:1"), "below the limit")
        .await;
    let full = store.0.insert(&limited(3, "user:1")).await;
    assert_rejected(&full, &RegistryError::TooManyTokens, "an insertion");
    store.assert_absent(3).await;
    let other = limited(3, "user:2");
    store
        .insert_write(other, "the limit of another owner")
        .await;
    let unowned = write(plain_record(4)).with_max_tokens_of_owner(2);
    store.insert_write(unowned, "no owner").await;
    let revoked = store.stored(1).await.with_state(TokenState::Revoked);
    store.update(revoked).await;
    store
        .insert_write(limited(5, "user:1"), "below the limit")
        .await;
}
