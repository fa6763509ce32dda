//! Tokens, and a typical record for each: a name and two roles.

use tower_service_token::MemoryStore;
use tower_service_token::store::TokenRecord;
use tower_service_token::token::{MintedToken, TokenFormat};

pub(crate) const ROLES: [&str; 2] = ["deployer", "k8s-troubleshooter"];

pub(crate) fn mint(count: usize) -> Vec<MintedToken> {
    let format = TokenFormat::default();
    let minted = (0..count).map(|_| format.mint().expect("random bytes"));
    minted.collect()
}

pub(crate) fn name(number: usize) -> String {
    format!("ci-deploy-{number:07}")
}

/// Returns a record without an expiry, so that no request reads the clock.
pub(crate) fn record(token: &MintedToken, number: usize) -> TokenRecord {
    TokenRecord::from(token)
        .with_name(name(number))
        .with_roles(ROLES)
}

pub(crate) fn store(tokens: &[MintedToken]) -> MemoryStore {
    let store = MemoryStore::new();
    for (number, token) in tokens.iter().enumerate() {
        let inserted = store.insert(record(token, number));
        inserted.expect("minted tokens are different");
    }
    store
}
