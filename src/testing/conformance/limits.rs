use super::fixture::{Fixture, assert_rejected};
use super::records::{plain_record, write};
use crate::registry::{RegistryError, TokenRegistry, Write};
use crate::store::TokenState;

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> Fixture<R>) {
    unique_names_are_exclusive(&empty().await).await;
    released_names_can_be_reused(&empty().await).await;
    insert_enforces_the_token_limit(&empty().await).await;
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
