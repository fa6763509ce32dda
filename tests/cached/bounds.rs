use async_trait::async_trait;
use tower_service_token::MemoryStore;
use tower_service_token::store::{
    Cached, CachedStore, Credential, StoreError, TokenRecord, TokenStore,
};
use tower_service_token::token::PresentedToken;

use crate::node::{Node, OK, UNAUTHORIZED, clock, mint, stored};
use crate::remote_store::Remote;

const GOOD: usize = 1_000;
const JUNK: usize = 100_000;

/// Each map is cut into shards of equal size, so its bound is the capacity rounded up.
fn about(capacity: usize) -> usize {
    capacity + capacity / 10
}

#[tokio::test]
async fn a_flood_of_junk_evicts_nothing_good_and_stays_within_its_bound() {
    let tokens = MemoryStore::new();
    let remote = Remote::new(&tokens);
    let node = Node::new(&remote, &clock());
    let good: Vec<_> = (0..GOOD).map(|_| stored(&tokens)).collect();
    for token in &good {
        assert_eq!(node.status(token).await, OK);
    }
    assert_eq!(node.cached.occupancy().passing, GOOD);

    for number in 0..JUNK {
        let response = node.send(&format!("junk-{number}")).await;
        assert_eq!(response.status(), UNAUTHORIZED);
    }
    let occupancy = node.cached.occupancy();
    assert_eq!(occupancy.passing, GOOD);
    assert!((1..=about(10_000)).contains(&occupancy.refused));
    assert_eq!(occupancy.in_flight, 0);
    assert_eq!(remote.lookups(), GOOD + JUNK);
    for token in &good {
        assert_eq!(node.status(token).await, OK);
    }
    assert_eq!(remote.lookups(), GOOD + JUNK, "all were remembered");
}

#[tokio::test]
async fn good_tokens_stay_within_their_bound_and_all_work() {
    let tokens = MemoryStore::new();
    let remote = Remote::new(&tokens);
    let cached = CachedStore::new(remote.clone()).with_capacity(100);
    let node = Node::of(cached, &clock());
    for _ in 0..GOOD {
        assert_eq!(node.status(&stored(&tokens)).await, OK);
    }
    let passing = node.cached.occupancy().passing;
    assert!((1..=about(100)).contains(&passing), "{passing}");
}

#[tokio::test]
async fn a_capacity_of_zero_keeps_nothing() {
    let tokens = MemoryStore::new();
    let remote = Remote::new(&tokens);
    let cached = CachedStore::new(remote.clone());
    let cached = cached.with_capacity(0).with_negative_capacity(0);
    let node = Node::of(cached, &clock());
    let (token, unknown) = (stored(&tokens), mint());
    for _ in 0..3 {
        assert_eq!(node.status(&token).await, OK);
        assert_eq!(node.status(&unknown).await, UNAUTHORIZED);
    }
    assert_eq!(remote.lookups(), 6);
}

/// Finds its one record whatever is presented, as a store that looks up by id would.
struct ById(TokenRecord);

#[async_trait]
impl TokenStore for ById {
    async fn find(&self, _: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        Ok(Some(self.0.clone()))
    }
}

#[tokio::test]
async fn records_found_for_wrong_secrets_are_junk_too() {
    let token = mint();
    let cached = CachedStore::new(ById(TokenRecord::from(&token)))
        .with_capacity(100)
        .with_negative_capacity(100);
    let good = PresentedToken::new(token.expose_secret()).unwrap();
    let good = Credential::new(good);
    cached.find(&good).await.unwrap();
    for number in 0..GOOD {
        let guess = format!("guess-{number}");
        let guess = Credential::new(PresentedToken::new(&guess).unwrap());
        let found = cached.find(&guess).await.unwrap();
        assert!(found.is_some(), "the layer decides");
    }
    let occupancy = cached.occupancy();
    assert_eq!(occupancy.passing, 1);
    assert!((1..=about(100)).contains(&occupancy.refused));
    assert!(matches!(cached.find_cached(&good), Cached::Found(_)));
}
