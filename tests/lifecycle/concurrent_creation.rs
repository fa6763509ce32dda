//! A creation that is overtaken by another one, with the same idempotency key or number.

use std::time::SystemTime;

use async_trait::async_trait;
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{LifecycleError, NewToken};
use tower_service_token::registry::{ListRequest, RegistryError, TokenPage, TokenRegistry, Write};
use tower_service_token::store::{Credential, StoreError, TokenRecord};
use tower_service_token::token::TokenId;
use tower_service_token::{MemoryStore, ServiceTokens, TokenStore};

/// Has another node create a token first.
struct ConcurrentCreationStore {
    tokens: MemoryStore,
    /// What the other node does, and how this one finds it out, unless by its own checks.
    overtake: fn(&MemoryStore, &TokenRecord) -> Option<RegistryError>,
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
        match (self.overtake)(&self.tokens, write.record()) {
            Some(conflict) => Err(conflict),
            None => TokenRegistry::insert(&self.tokens, write).await,
        }
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

fn insert(tokens: &MemoryStore, record: &TokenRecord) {
    tokens.insert(record.clone()).unwrap();
}

/// The conflict is found by the token's name or by the number of tokens, before the id.
#[tokio::test]
async fn concurrent_creation_with_same_key_returns_existing_token() {
    let causes: [fn(&MemoryStore, &TokenRecord) -> Option<RegistryError>; 3] = [
        |tokens, record| {
            insert(tokens, record);
            Some(RegistryError::NameTaken)
        },
        |tokens, record| {
            insert(tokens, record);
            Some(RegistryError::TooManyTokens)
        },
        |tokens, record| {
            insert(tokens, record);
            None
        },
    ];
    for overtake in causes {
        let tokens = MemoryStore::new();
        let store = ConcurrentCreationStore { tokens, overtake };
        let wanted = NewToken::new("ci").with_idempotency_key("8e03978e");
        let created = ServiceTokens::new(store).create(wanted).await;
        let Err(LifecycleError::AlreadyCreated(record)) = created else {
            panic!("{created:?}");
        };
        assert_eq!(record.name(), "ci");
    }
}

/// Inserts a token whose id has the number of the first one.
fn take_number(tokens: &MemoryStore, record: &TokenRecord) -> Option<RegistryError> {
    const NUMBERS: i64 = 10_000_000_000_000;
    if tokens.is_empty() {
        let id = record.id().as_i64();
        let id = TokenId::from_i64(id - NUMBERS).or(TokenId::from_i64(id + NUMBERS));
        let other = TokenRecord::new(id.unwrap(), TokenDigest::of("other"));
        insert(tokens, &other.with_name("other"));
    }
    None
}

#[tokio::test]
async fn creations_draw_another_id_if_its_number_is_in_use() {
    let (tokens, overtake) = (MemoryStore::new(), take_number as _);
    let store = ConcurrentCreationStore { tokens, overtake };
    let created = ServiceTokens::new(store).create(NewToken::new("ci")).await;
    assert_eq!(created.unwrap().record().name(), "ci");

    let (tokens, overtake) = (MemoryStore::new(), take_number as _);
    let store = ConcurrentCreationStore { tokens, overtake };
    let (service, digest) = (ServiceTokens::new(store), TokenDigest::of("x"));
    let imported = service.import(NewToken::new("ci"), digest).await.unwrap();
    assert_eq!(imported.digest(), &digest);
}

#[tokio::test]
async fn keys_whose_number_is_in_use_create_one_token() {
    let (tokens, overtake) = (MemoryStore::new(), take_number as _);
    let store = ConcurrentCreationStore {
        tokens: tokens.clone(),
        overtake,
    };
    let service = ServiceTokens::new(store);
    let wanted = || NewToken::new("ci").with_idempotency_key("8e03978e");
    let created = service.create(wanted()).await.unwrap();
    let id = created.record().id();
    let undisturbed = ServiceTokens::new(MemoryStore::new());
    let undisturbed = undisturbed.create(wanted()).await.unwrap();
    assert_ne!(id, undisturbed.record().id());
    for _ in 0..2 {
        let again = service.create(wanted()).await;
        let Err(LifecycleError::AlreadyCreated(record)) = again else {
            panic!("{again:?}");
        };
        assert_eq!(record.id(), id);
    }
    assert_eq!(tokens.len(), 2);
    assert_eq!(service.get_by_number(id.number()).await.unwrap().id(), id);
}
