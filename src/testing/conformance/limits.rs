use super::calls::{assert_absent, expect_insert};
use super::records::{plain_record, write};
use crate::registry::{RegistryError, TokenRegistry, Write};
use crate::store::{TokenRecord, TokenState};

pub(super) async fn check<R: TokenRegistry>(empty: impl AsyncFn() -> R) {
    unique_names_are_exclusive(&empty().await).await;
    released_names_can_be_reused(&empty().await).await;
    insert_enforces_the_token_limit(&empty().await).await;
}

fn named(number: i64, name: &str) -> TokenRecord {
    plain_record(number).with_name(name)
}

fn unique(record: TokenRecord) -> Write {
    write(record).with_unique_name(true)
}

async fn unique_names_are_exclusive(registry: &impl TokenRegistry) {
    let is_taken = |result: Result<(), RegistryError>, what: &str| {
        assert!(
            matches!(result, Err(RegistryError::NameTaken)),
            "{what}: {result:?}"
        );
    };
    let update = async |record: TokenRecord| registry.update(&unique(record)).await;
    expect_insert(registry, &unique(named(1, "a")), "a free name").await;
    is_taken(
        registry.insert(&unique(named(2, "a"))).await,
        "an insertion",
    );
    assert_absent(registry, 2).await;
    expect_insert(registry, &unique(named(2, "b")), "a free name").await;
    is_taken(update(named(2, "a")).await.map(drop), "an update");
    // A token may keep its own name.
    update(named(1, "a")).await.expect("its own name");
    // Names differ by case, and a write without the limit is not held back.
    expect_insert(registry, &unique(named(3, "A")), "another name").await;
    expect_insert(registry, &write(named(4, "a")), "a name without the limit").await;
}

async fn released_names_can_be_reused(registry: &impl TokenRegistry) {
    let update = async |record: TokenRecord| registry.update(&unique(record)).await;
    for (number, name) in [(1, "a"), (2, "b")] {
        expect_insert(registry, &unique(named(number, name)), "a free name").await;
    }
    let renamed = update(named(1, "c")).await.expect("a free name");
    let second = update(named(2, "a"))
        .await
        .expect("a name that was given up");
    let revoked = second.with_state(TokenState::Revoked);
    update(revoked).await.expect("a revocation");
    expect_insert(
        registry,
        &unique(named(5, "a")),
        "the name of a revoked token",
    )
    .await;
    registry.delete(&write(renamed)).await.expect("a deletion");
    expect_insert(
        registry,
        &unique(named(6, "c")),
        "the name of a deleted token",
    )
    .await;
}

async fn insert_enforces_the_token_limit(registry: &impl TokenRegistry) {
    let at_most_two = |number| write(plain_record(number)).with_max_tokens(2);
    let is_full = |result: Result<(), RegistryError>| {
        assert!(
            matches!(result, Err(RegistryError::TooManyTokens)),
            "{result:?}"
        );
    };
    let none = write(plain_record(1)).with_max_tokens(0);
    is_full(registry.insert(&none).await);
    expect_insert(registry, &at_most_two(1), "room for two").await;
    expect_insert(registry, &at_most_two(2), "room for two").await;
    is_full(registry.insert(&at_most_two(3)).await);
    assert_absent(registry, 3).await;
    let update = write(plain_record(1).with_state(TokenState::Disabled)).with_max_tokens(2);
    let disabled = registry
        .update(&update)
        .await
        .expect("updates are not counted");
    is_full(registry.insert(&at_most_two(3)).await);
    let revoked = disabled.with_state(TokenState::Revoked);
    registry
        .update(&write(revoked))
        .await
        .expect("a revocation");
    expect_insert(registry, &at_most_two(3), "a revoked token is not counted").await;
    is_full(registry.insert(&at_most_two(4)).await);
    expect_insert(registry, &write(plain_record(4)), "no limit").await;
}
