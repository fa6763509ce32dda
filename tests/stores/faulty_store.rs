//! `FaultyStore` forwards each call once and applies the current fault.

use futures::executor::block_on;
use tower_service_token::audit::{AuditAction, AuditEvent};
use tower_service_token::lifecycle::NewToken;
use tower_service_token::registry::{TokenFilter, TokenRegistry, Write};
use tower_service_token::store::{Credential, TokenRecord, TokenState};
use tower_service_token::testing::{Fault, FaultyStore};
use tower_service_token::token::PresentedToken;
use tower_service_token::{MemoryStore, ServiceTokens, TokenStore};

/// Returns a write that revokes the token of this record.
fn revocation(record: &TokenRecord) -> Write {
    let now = std::time::SystemTime::now();
    let event = AuditEvent::new(now, "operator:a", AuditAction::Revoked, record.id());
    Write::new(record.clone().with_state(TokenState::Revoked), event)
}

#[test]
fn fault_applies_to_counts_batches_and_uncached_lookups() {
    let memory = MemoryStore::new();
    let store = FaultyStore::new(memory.clone());
    let tokens = ServiceTokens::new(memory.clone());
    let create = |name| block_on(tokens.create(NewToken::new(name))).unwrap();
    let issued = [create("a"), create("b")];
    let writes = issued.each_ref().map(|it| revocation(it.record()));
    let token = PresentedToken::new(issued[0].expose_secret()).unwrap();
    let credential = Credential::new(token);
    let now = std::time::SystemTime::now();
    let not_revoked = TokenFilter::new().without_revoked();
    let count = || block_on(store.count(&not_revoked, now));
    let stored_count = || block_on(memory.count(&not_revoked, now)).unwrap();

    store.inject(Fault::Error);
    assert!(count().is_err());
    assert!(block_on(store.find_uncached(&credential)).is_err());
    let outcomes = block_on(store.update_many(&writes));
    assert!(outcomes.len() == 2 && outcomes.iter().all(Result::is_err));
    assert_eq!((store.calls(), stored_count()), (3, 2));

    store.inject_after(1, Fault::LostResponse);
    assert_eq!(count().unwrap(), 2);
    assert!(
        block_on(store.update_many(&writes))
            .iter()
            .all(Result::is_err)
    );
    assert_eq!((store.calls(), stored_count()), (5, 0));

    store.clear_fault();
    assert!(
        block_on(store.find_uncached(&credential))
            .unwrap()
            .is_some()
    );
    assert_eq!(count().unwrap(), 0);
}
