//! Calls of a registry that succeed.

use super::records::{id, write};
use crate::registry::{TokenRegistry, Write};
use crate::store::TokenRecord;

pub(super) async fn insert(registry: &impl TokenRegistry, record: TokenRecord) {
    let what = "a token with a new id and digest can be inserted";
    expect_insert(registry, &write(record), what).await;
}

/// Inserts a record that the limits of the write allow.
pub(super) async fn expect_insert(registry: &impl TokenRegistry, write: &Write, what: &str) {
    registry.insert(write).await.expect(what);
}

pub(super) async fn stored(registry: &impl TokenRegistry, number: i64) -> TokenRecord {
    let record = registry.get(id(number)).await.expect("a store that works");
    record.unwrap_or_else(|| panic!("token {number} was inserted and is not there"))
}

pub(super) async fn assert_absent(registry: &impl TokenRegistry, number: i64) {
    let record = registry.get(id(number)).await.expect("a store that works");
    assert!(record.is_none(), "token {number} is not in the registry");
}

/// Updates the token as its owner would.
pub(super) async fn change(registry: &impl TokenRegistry, record: TokenRecord) -> TokenRecord {
    let changed = registry.update(&write(record)).await;
    changed.expect("an update at the stored revision")
}
