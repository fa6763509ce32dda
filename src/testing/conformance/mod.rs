//! Functions that check the rules for stores, to call in a test.
//!
//! [`token_store`] checks a store that only looks tokens up. [`token_registry`] checks a registry,
//! including the rules of a store. Each rule gets a new store.
//!
//! ```
//! use tower_service_token::MemoryStore;
//! use tower_service_token::testing::conformance;
//!
//! # futures::executor::block_on(
//! conformance::token_registry(async || MemoryStore::new())
//! # );
//! ```

mod last_admin;
mod authority;
mod authority_races;
mod batch;
mod calls;
mod notifications;
mod crud;
mod limits;
mod listing;
mod records;
mod concurrency;

use self::records::{digest, full_record, plain_record, records_are_equal};
use crate::clock::SystemClock;
use crate::registry::TokenRegistry;
use crate::store::{Cached, DenialKind, TokenRecord, TokenState, TokenStore, verdict};

/// Checks a store that only looks tokens up. `with_tokens` creates a store that contains exactly
/// these tokens.
///
/// A store may save less than the whole record (a name, a description), if it returns what a
/// [verdict] and a [`Principal`](crate::Principal) need: id, digest, name, subject, roles, scopes,
/// labels, times and state.
///
/// # Panics
///
/// Panics if a rule is broken.
pub async fn token_store<S: TokenStore>(with_tokens: impl AsyncFn(Vec<TokenRecord>) -> S) {
    let records: Vec<TokenRecord> = vec![
        plain_record(1),
        // A store that only looks tokens up need not support rotation.
        full_record(2).with_previous_digest(None),
        plain_record(3).with_state(TokenState::Revoked),
        plain_record(4).with_state(TokenState::Disabled),
        plain_record(5).with_expires_at(records::at(-5)),
    ];
    let store = with_tokens(records.clone()).await;
    for (number, record) in (1..).zip(&records) {
        let found = find_token(&store, number).await;
        let found = found.unwrap_or_else(|| panic!("token {number} is known and was not found"));
        records::assert_principal(&found, record);
    }
    assert!(
        find_token(&store, 99).await.is_none(),
        "a token was found that nobody added"
    );
    for (number, kind) in [
        (3, DenialKind::Revoked),
        (4, DenialKind::Disabled),
        (5, DenialKind::Expired),
    ] {
        let found = find_token(&store, number).await;
        let denial = verdict(found, &records::credential(number), &SystemClock).err();
        assert_eq!(
            denial.map(|denial| denial.kind()),
            Some(kind),
            "a store finds tokens that do not work as well; the layer refuses them"
        );
    }
}

/// Checks all [rules](TokenRegistry) of a registry. `empty` creates an empty registry that shares
/// nothing with others.
///
/// # Panics
///
/// Panics if a rule is broken.
pub async fn token_registry<R: TokenRegistry>(empty: impl AsyncFn() -> R) {
    crud::check(&empty).await;
    limits::check(&empty).await;
    listing::check(&empty).await;
    notifications::check(&empty).await;
    concurrency::check(&empty).await;
    authority::check(&empty).await;
    authority_races::check(&empty).await;
    last_admin::check(&empty).await;
    batch::check(&empty).await;
    token_store(async |records| {
        let registry = empty().await;
        for record in records {
            let inserted = registry.insert(&records::write(record)).await;
            inserted.expect("a token with a new id and digest can be inserted");
        }
        registry
    })
    .await;
}

/// Returns the record of this token from a lookup, which must agree with the answer from memory.
async fn find_token(store: &impl TokenStore, number: i64) -> Option<TokenRecord> {
    let credential = records::credential(number);
    let asked = store.find(&credential).await;
    let asked = asked.expect("a store that works can look");
    match store.find_cached(&credential) {
        Cached::Miss => {}
        Cached::NotFound => assert!(asked.is_none(), "memory denies what `find` finds"),
        Cached::Found(cached) => {
            let asked = asked.as_ref().expect("memory finds what `find` denies");
            assert!(
                records_are_equal(&cached, asked),
                "memory and `find` differ"
            );
        }
    }
    assert!(
        asked
            .as_ref()
            .is_none_or(|it| *it.digest() == digest(number)
                || it.previous_digest() == Some(&digest(number))),
        "a record was found that has another digest"
    );
    asked
}
