//! A conformance suite for stores, to call in a test.
//!
//! [`token_store`] checks a store that only looks tokens up. [`token_registry`] checks a registry,
//! including the rules of a store. [`ticket_store`] checks a store of tickets. Each rule gets a new
//! store.
//!
//! ```
//! use tower_service_token::MemoryStore;
//! use tower_service_token::testing::conformance;
//!
//! # futures::executor::block_on(
//! conformance::token_registry(async || MemoryStore::new())
//! # );
//! ```

mod authority;
mod batch;
mod concurrency;
mod crud;
mod fixture;
mod last_admin;
mod limits;
mod listing;
mod notifications;
mod records;
mod tickets;

use self::fixture::Fixture;
use self::records::{assert_principal, at, credential, full_record, plain_record};
use crate::clock::SystemClock;
use crate::registry::TokenRegistry;
use crate::store::{DenialKind, TokenRecord, TokenState, TokenStore, verdict};
use crate::ticket_store::TicketStore;

/// Checks a store that only looks tokens up. `with_tokens` creates a store that contains exactly
/// these tokens.
///
/// A store may omit fields that neither a [verdict] nor a [`Principal`](crate::Principal) uses, such
/// as a description. It must return id, digest, name, subject, owner, roles, scopes, labels, times and
/// state.
///
/// # Panics
///
/// Panics if the store breaks a rule.
pub async fn token_store<S: TokenStore>(with_tokens: impl AsyncFn(Vec<TokenRecord>) -> S) {
    let cases = [
        (plain_record(1), None),
        // A store that only looks tokens up need not support rotation.
        (full_record(2).with_previous_digest(None), None),
        (
            plain_record(3).with_state(TokenState::Revoked),
            Some(DenialKind::Revoked),
        ),
        (
            plain_record(4).with_state(TokenState::Disabled),
            Some(DenialKind::Disabled),
        ),
        (
            plain_record(5).with_expires_at(at(-5)),
            Some(DenialKind::Expired),
        ),
    ];
    let records = cases.iter().map(|(record, _)| record.clone()).collect();
    let store = Fixture(with_tokens(records).await);
    for (number, (record, kind)) in (1..).zip(&cases) {
        let found = store.find(number).await;
        let found = found.unwrap_or_else(|| panic!("token {number} is not found"));
        assert_principal(&found, record);
        let denial = verdict(Some(found), &credential(number), &SystemClock).err();
        assert!(
            kind.is_none() || denial.map(|denial| denial.kind()) == *kind,
            "the verdict on token {number} is not {kind:?}"
        );
    }
    store.assert_not_found(99, "an unknown secret").await;
}

/// Checks all [rules](TokenRegistry) of a registry, including those of a store. `empty` creates an
/// empty registry that shares nothing with others.
///
/// # Panics
///
/// Panics if the registry breaks a rule.
pub async fn token_registry<R: TokenRegistry>(empty: impl AsyncFn() -> R) {
    let empty = async || Fixture(empty().await);
    crud::check(&empty).await;
    limits::check(&empty).await;
    listing::check(&empty).await;
    notifications::check(&empty).await;
    authority::check(&empty).await;
    concurrency::check(&empty).await;
    last_admin::check(&empty).await;
    batch::check(&empty).await;
    token_store(async |records| {
        let store = empty().await;
        store.insert(records).await;
        store.0
    })
    .await;
}

/// Checks a store of [tickets](crate::streams). `empty` creates an empty store that shares nothing with
/// others. It accepts at least 16 tickets of one token.
///
/// # Panics
///
/// Panics if the store breaks a rule.
pub async fn ticket_store<S: TicketStore>(empty: impl AsyncFn() -> S) {
    tickets::a_ticket_is_taken_once(&empty().await).await;
    tickets::one_of_concurrent_calls_takes_a_ticket(&empty().await).await;
    tickets::other_tickets_stay(&empty().await).await;
}
