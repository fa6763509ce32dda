//! The bounds of the cache, and evictions.

use async_trait::async_trait;
use tower_service_token::MemoryStore;
use tower_service_token::store::{
    Cached, CachedStore, Credential, StoreError, TokenRecord, TokenStore,
};
use tower_service_token::token::PresentedToken;

use crate::node::{Node, OK, UNAUTHORIZED, clock, insert_token, mint};
use crate::remote_store::RemoteStore;

const VALID_TOKENS: usize = 1_000;
const UNKNOWN_TOKENS: usize = 100_000;

/// Each map is split into shards of equal size, so its bound is the capacity rounded up.
fn capacity_with_slack(capacity: usize) -> usize {
    capacity + capacity / 10
}

#[tokio::test]
async fn negative_entries_do_not_evict_positive_ones_and_stay_within_capacity() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let node = Node::new(&remote, &clock());
    let valid: Vec<_> = (0..VALID_TOKENS).map(|_| insert_token(&tokens)).collect();
    for token in &valid {
        assert_eq!(node.status(token).await, OK);
    }
    assert_eq!(node.cached.occupancy().positive, VALID_TOKENS);

    for number in 0..UNKNOWN_TOKENS {
        let response = node.send(&format!("unknown-{number}")).await;
        assert_eq!(response.status(), UNAUTHORIZED);
    }
    let occupancy = node.cached.occupancy();
    assert_eq!(occupancy.positive, VALID_TOKENS);
    assert!((1..=capacity_with_slack(10_000)).contains(&occupancy.negative));
    assert_eq!(occupancy.in_flight, 0);
    assert_eq!(remote.lookups(), VALID_TOKENS + UNKNOWN_TOKENS);
    for token in &valid {
        assert_eq!(node.status(token).await, OK);
    }
    assert_eq!(
        remote.lookups(),
        VALID_TOKENS + UNKNOWN_TOKENS,
        "the valid tokens are still cached"
    );
}

#[tokio::test]
async fn positive_entries_stay_within_capacity_and_all_tokens_are_accepted() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let cached = CachedStore::new(remote.clone()).with_capacity(100);
    let node = Node::with_cache(cached, &clock());
    for _ in 0..VALID_TOKENS {
        assert_eq!(node.status(&insert_token(&tokens)).await, OK);
    }
    let positive = node.cached.occupancy().positive;
    assert!(
        (1..=capacity_with_slack(100)).contains(&positive),
        "{positive}"
    );
}

#[tokio::test]
async fn zero_capacity_caches_nothing() {
    let tokens = MemoryStore::new();
    let remote = RemoteStore::new(&tokens);
    let cached = CachedStore::new(remote.clone());
    let cached = cached.with_capacity(0).with_negative_capacity(0);
    let node = Node::with_cache(cached, &clock());
    let (token, unknown) = (insert_token(&tokens), mint());
    for _ in 0..3 {
        assert_eq!(node.status(&token).await, OK);
        assert_eq!(node.status(&unknown).await, UNAUTHORIZED);
    }
    assert_eq!(remote.lookups(), 6);
}

/// Returns its only record for every token, as a store that looks up by id may do.
struct SingleRecordStore(TokenRecord);

#[async_trait]
impl TokenStore for SingleRecordStore {
    async fn find(&self, _: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        Ok(Some(self.0.clone()))
    }
}

#[tokio::test]
async fn record_with_another_digest_counts_as_negative_entry() {
    let token = mint();
    let cached = CachedStore::new(SingleRecordStore(TokenRecord::from(&token)))
        .with_capacity(100)
        .with_negative_capacity(100);
    let valid = PresentedToken::new(token.expose_secret()).unwrap();
    let valid = Credential::new(valid);
    cached.find(&valid).await.unwrap();
    for number in 0..VALID_TOKENS {
        let guess = format!("guess-{number}");
        let guess = Credential::new(PresentedToken::new(&guess).unwrap());
        let found = cached.find(&guess).await.unwrap();
        assert!(
            found.is_some(),
            "the layer rejects the record, not the cache"
        );
    }
    let occupancy = cached.occupancy();
    assert_eq!(occupancy.positive, 1);
    assert!((1..=capacity_with_slack(100)).contains(&occupancy.negative));
    assert!(matches!(cached.find_cached(&valid), Cached::Found(_)));
}
