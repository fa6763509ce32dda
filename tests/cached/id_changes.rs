//! Change notifications that contain the id of a token and no digests.

use std::sync::Arc;

use async_trait::async_trait;
use tower_service_token::MemoryStore;
use tower_service_token::store::{
    CachedStore, ChangeFeed, ChangeListener, Credential, StoreError, TokenChange, TokenRecord,
    TokenState, TokenStore,
};
use tower_service_token::token::{MintedToken, PresentedToken, TokenId};

use crate::node::{SECOND, digest, insert_token, mint, start};
use crate::remote_store::RemoteStore;

/// A store whose notifications contain only the id of a token.
struct StoreWithoutDigests {
    remote: RemoteStore,
    feed: ChangeFeed,
}

#[async_trait]
impl TokenStore for StoreWithoutDigests {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.remote.find(credential).await
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.feed.subscribe(listener);
    }
}

struct Fixture {
    tokens: MemoryStore,
    remote: RemoteStore,
    feed: ChangeFeed,
    cached: CachedStore<StoreWithoutDigests>,
}

impl Fixture {
    fn new() -> Self {
        let tokens = MemoryStore::new();
        let remote = RemoteStore::without_feed(&tokens);
        let feed = ChangeFeed::default();
        let cached = CachedStore::new(StoreWithoutDigests {
            remote: remote.clone(),
            feed: feed.clone(),
        });
        Self {
            tokens,
            remote,
            feed,
            cached,
        }
    }

    fn publish(&self, id: TokenId) {
        let digests = Vec::new();
        self.feed.publish(&TokenChange::Token { id, digests });
    }

    async fn find(&self, token: &MintedToken) -> Option<TokenRecord> {
        find(&self.cached, token.expose_secret()).await
    }

    async fn state(&self, token: &MintedToken) -> TokenState {
        self.find(token).await.unwrap().state()
    }
}

async fn find(cached: &CachedStore<StoreWithoutDigests>, token: &str) -> Option<TokenRecord> {
    let token = PresentedToken::new(token).unwrap();
    cached.find(&Credential::new(token)).await.unwrap()
}

#[tokio::test]
async fn change_without_digests_evicts_the_token_by_its_id() {
    let fixture = Fixture::new();
    let (revoked, other) = (insert_token(&fixture.tokens), insert_token(&fixture.tokens));
    for token in [&revoked, &other] {
        assert_eq!(fixture.state(token).await, TokenState::Active);
    }
    fixture.tokens.revoke(revoked.id()).unwrap();
    assert_eq!(fixture.state(&revoked).await, TokenState::Active);
    fixture.publish(revoked.id());
    assert_eq!(fixture.state(&revoked).await, TokenState::Revoked);

    let lookups = fixture.remote.lookups();
    fixture.state(&other).await;
    assert_eq!(
        fixture.remote.lookups(),
        lookups,
        "the other token is still cached"
    );
}

#[tokio::test]
async fn change_without_digests_evicts_every_secret_of_the_token() {
    let fixture = Fixture::new();
    let (old, new) = (insert_token(&fixture.tokens), mint());
    let record = fixture.tokens.get(old.id()).unwrap();
    let rotated = record
        .with_digest(digest(&new))
        .with_previous_digest((digest(&old), start() + 1_000_000 * SECOND));
    fixture.tokens.replace(rotated).unwrap();
    for secret in [&old, &new] {
        assert_eq!(fixture.state(secret).await, TokenState::Active);
    }
    fixture.tokens.revoke(old.id()).unwrap();
    fixture.publish(old.id());
    for secret in [&old, &new] {
        assert_eq!(fixture.state(secret).await, TokenState::Revoked);
    }
}

/// An entry for an unknown token has no id, so every change evicts it.
#[tokio::test]
async fn change_without_digests_evicts_unknown_and_rejected_tokens() {
    let fixture = Fixture::new();
    let (unknown, disabled) = (mint(), insert_token(&fixture.tokens));
    let record = fixture.tokens.get(disabled.id()).unwrap();
    let disable = record.clone().with_state(TokenState::Disabled);
    fixture.tokens.replace(disable).unwrap();
    assert!(fixture.find(&unknown).await.is_none());
    assert_eq!(fixture.state(&disabled).await, TokenState::Disabled);

    fixture.tokens.insert(TokenRecord::from(&unknown)).unwrap();
    fixture.publish(unknown.id());
    assert_eq!(fixture.state(&unknown).await, TokenState::Active);
    assert_eq!(fixture.state(&disabled).await, TokenState::Disabled);
    fixture.tokens.replace(record).unwrap();
    fixture.publish(disabled.id());
    assert_eq!(fixture.state(&disabled).await, TokenState::Active);
}

#[tokio::test]
async fn change_without_digests_restarts_running_lookups() {
    let fixture = Fixture::new();
    let token = insert_token(&fixture.tokens);
    fixture.remote.after_read().close();
    let lookup = tokio::spawn({
        let (cached, token) = (fixture.cached.clone(), token.expose_secret().to_owned());
        async move { find(&cached, &token).await }
    });
    fixture.remote.after_read().wait_until_reached().await;
    fixture.tokens.revoke(token.id()).unwrap();
    fixture.publish(token.id());
    fixture.remote.after_read().reopen();
    fixture.remote.after_read().resume_one();
    let found = lookup.await.unwrap().unwrap();
    assert_eq!(found.state(), TokenState::Revoked);
    assert_eq!(fixture.state(&token).await, TokenState::Revoked);
}
