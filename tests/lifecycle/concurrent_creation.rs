//! A creation that is overtaken by another one with the same idempotency key.

use std::time::SystemTime;

use async_trait::async_trait;
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{LifecycleError, NewToken};
use tower_service_token::registry::{ListRequest, RegistryError, TokenPage, TokenRegistry, Write};
use tower_service_token::store::{Credential, StoreError, TokenRecord};
use tower_service_token::token::TokenId;
use tower_service_token::{MemoryStore, ServiceTokens, TokenStore};

/// Has another node create each token first, and finds that out by the token's name or by the
/// number of tokens, before it looks at the id.
struct ConcurrentCreationStore {
    tokens: MemoryStore,
    conflict: fn() -> RegistryError,
}

#[async_trait]
impl TokenStore for ConcurrentCreationStore {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.tokens.find(credential).await
    }
}

#[async_trait]
impl TokenRegistry for ConcurrentCreationStore {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        TokenRegistry::insert(&self.tokens, write).await?;
        Err((self.conflict)())
    }

    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        TokenRegistry::get(&self.tokens, id).await
    }

    async fn find_by_digest(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.tokens.find_by_digest(digest).await
    }

    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
        self.tokens.list(request).await
    }

    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        self.tokens.update(write).await
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        self.tokens.delete(write).await
    }

    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        self.tokens.touch(uses).await
    }
}

#[tokio::test]
async fn concurrent_creation_with_same_key_returns_existing_token() {
    let causes: [fn() -> RegistryError; 3] = [
        || RegistryError::NameTaken,
        || RegistryError::TooManyTokens,
        || RegistryError::DuplicateId,
    ];
    for conflict in causes {
        let tokens = MemoryStore::new();
        let store = ConcurrentCreationStore { tokens, conflict };
        let wanted = NewToken::new("ci").with_idempotency_key("8e03978e");
        let created = ServiceTokens::new(store).create(wanted).await;
        let Err(LifecycleError::AlreadyCreated(record)) = created else {
            panic!("{}: {created:?}", conflict());
        };
        assert_eq!(record.name(), "ci");
    }
}
