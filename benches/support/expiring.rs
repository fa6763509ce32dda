//! A `MemoryStore` whose records have an expiry, so that each request reads the clock.

use std::time::SystemTime;

use tower_service_token::MemoryStore;
use tower_service_token::token::MintedToken;

use crate::tokens;

pub(crate) fn store_with_expiry(tokens: &[MintedToken], expires_at: SystemTime) -> MemoryStore {
    let store = MemoryStore::new();
    for (number, token) in tokens.iter().enumerate() {
        let record = tokens::record(token, number).with_expires_at(expires_at);
        store.insert(record).expect("minted tokens are different");
    }
    store
}
