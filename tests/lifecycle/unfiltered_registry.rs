//! A registry that ignores filters, as one that was written before tokens had owners.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tower_service_token::clock::ManualClock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{LifecycleError, NewToken, Owner, Page};
use tower_service_token::registry::{
    ListRequest, RegistryError, TokenFilter, TokenPage, TokenRegistry, Write,
};
use tower_service_token::store::{Credential, StoreError, StoreErrorKind, TokenRecord};
use tower_service_token::token::TokenId;
use tower_service_token::{MemoryStore, ServiceTokens, TokenStore};

#[derive(Clone)]
struct Unfiltered(Arc<MemoryStore>);

#[async_trait]
impl TokenStore for Unfiltered {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.0.find(credential).await
    }
}

#[async_trait]
impl TokenRegistry for Unfiltered {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        TokenRegistry::insert(&*self.0, write).await
    }

    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        TokenRegistry::get(&*self.0, id).await
    }

    async fn find_by_digest(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.0.find_by_digest(digest).await
    }

    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
        let all = ListRequest::new(TokenFilter::new(), request.now()).with_limit(request.limit());
        let all = match request.after() {
            Some(after) => all.with_cursor(*after).unwrap(),
            None => all,
        };
        self.0.list(&all).await
    }

    async fn count(&self, _: &TokenFilter, now: SystemTime) -> Result<u64, StoreError> {
        self.0.count(&TokenFilter::new(), now).await
    }

    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        self.0.update(write).await
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        self.0.delete(write).await
    }

    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        self.0.touch(uses).await
    }
}

fn assert_corrupt<T: std::fmt::Debug>(outcome: Result<T, LifecycleError>) {
    let Err(LifecycleError::Store(error)) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
}

/// Neither a count nor a cursor shows how many tokens others have.
#[tokio::test]
async fn rejects_a_registry_that_ignores_the_owner_filter() {
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_343_400));
    let registry = Unfiltered(Arc::new(MemoryStore::new()));
    let operator = ServiceTokens::new(registry).with_clock(clock.clone());
    let alice = operator.clone().acting_for(Owner::new("user:1"));
    let all = TokenFilter::new;
    for name in ["first", "second"] {
        let _ = alice.create(NewToken::new(name)).await.unwrap();
        clock.advance(Duration::from_secs(1));
    }
    let foreign = NewToken::new("foreign").with_owner("user:2");
    let foreign = operator.create(foreign).await.unwrap();
    // The pages have only tokens of the owner, and the cursor of the last leads to those of others.
    for limit in [1, 2, 3] {
        assert_corrupt(alice.list(all(), Page::with_limit(limit)).await);
    }
    assert_corrupt(alice.list(all().with_name("first"), Page::default()).await);
    assert_corrupt(alice.count(all()).await);
    assert_corrupt(alice.count(all().with_name("unknown")).await);
    assert_corrupt(alice.preview_revocation(all()).await);
    assert_corrupt(alice.revoke_where(all(), 3).await);
    assert_corrupt(alice.revoke_where(all(), None).await);
    assert_corrupt(alice.purge(Duration::ZERO).await);
    assert_corrupt(alice.get_by_number(foreign.record().id().number()).await);
    let bob = operator.clone().acting_for(Owner::new("user:3"));
    assert_corrupt(bob.list(all(), Page::default()).await);
    assert_corrupt(bob.count(all()).await);
    // An unconfined actor is not concerned.
    assert_eq!(operator.count(all()).await.unwrap(), 3);
    let listed = operator.list(all(), Page::with_limit(2)).await.unwrap();
    assert!(listed.next.is_some());
    let unchanged = listed.records.iter().all(|it| it.revision() == 1);
    assert!(unchanged, "{listed:?}");
}
