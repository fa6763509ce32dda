//! Creations that conflict with a concurrent change by another node.

use std::fmt;
use std::time::SystemTime;

use async_trait::async_trait;
use tower_service_token::clock::SystemClock;
use tower_service_token::digest::TokenDigest;
use tower_service_token::lifecycle::{LifecycleError, NewToken, TokenPolicy, TokenUpdate};
use tower_service_token::registry::{ListRequest, RegistryError, TokenPage, TokenRegistry, Write};
use tower_service_token::store::{Credential, StoreError, StoreErrorKind, TokenRecord, verdict};
use tower_service_token::token::{PresentedToken, TokenId};
use tower_service_token::{MemoryStore, ServiceTokens, TokenStore};

/// A store on which another node creates a token just before the insert.
struct ConcurrentCreationStore {
    tokens: MemoryStore,
    /// The concurrent creation. Returns the conflict that the insert reports, or `None` if the
    /// insert runs.
    concurrent_creation: fn(&MemoryStore, &TokenRecord) -> Option<RegistryError>,
    /// Whether another node transfers a token just before each read.
    transfers: bool,
}

impl ConcurrentCreationStore {
    fn new(
        tokens: &MemoryStore,
        concurrent_creation: fn(&MemoryStore, &TokenRecord) -> Option<RegistryError>,
    ) -> Self {
        Self {
            tokens: tokens.clone(),
            concurrent_creation,
            transfers: false,
        }
    }
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
        match (self.concurrent_creation)(&self.tokens, write.record()) {
            Some(conflict) => Err(conflict),
            None => TokenRegistry::insert(&self.tokens, write).await,
        }
    }

    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        let record = TokenRegistry::get(&self.tokens, id).await?;
        if let Some(record) = record.filter(|_| self.transfers) {
            let owner = match record.owner() {
                Some("user:1") => "user:2",
                _ => "user:1",
            };
            let transfer = TokenUpdate::new().with_owner(owner);
            let other_node = ServiceTokens::new(self.tokens.clone());
            other_node.update(id, transfer).await.unwrap();
        }
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

/// A store may detect the conflict by the name or by the number of tokens before it detects the
/// duplicate ID.
#[tokio::test]
async fn concurrent_creation_with_same_key_returns_existing_token() {
    let concurrent_creations: [fn(&MemoryStore, &TokenRecord) -> Option<RegistryError>; 3] = [
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
    for concurrent_creation in concurrent_creations {
        let store = ConcurrentCreationStore::new(&MemoryStore::new(), concurrent_creation);
        let new_token = NewToken::new("ci").with_idempotency_key("8e03978e");
        let created = ServiceTokens::new(store).create(new_token).await;
        let Err(LifecycleError::AlreadyCreated(record)) = created else {
            panic!("{created:?}");
        };
        assert_eq!(record.name(), "ci");
    }
}

/// Inserts another token whose ID has the same number as that of the first token.
fn occupy_number(tokens: &MemoryStore, record: &TokenRecord) -> Option<RegistryError> {
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
async fn creation_generates_another_id_if_the_number_is_in_use() {
    let store = ConcurrentCreationStore::new(&MemoryStore::new(), occupy_number);
    let created = ServiceTokens::new(store).create(NewToken::new("ci")).await;
    assert_eq!(created.unwrap().record().name(), "ci");

    let store = ConcurrentCreationStore::new(&MemoryStore::new(), occupy_number);
    let (service, digest) = (ServiceTokens::new(store), TokenDigest::of("x"));
    let imported = service.import(NewToken::new("ci"), digest).await.unwrap();
    assert_eq!(imported.digest(), &digest);
}

#[tokio::test]
async fn idempotency_key_whose_number_is_in_use_creates_one_token() {
    let tokens = MemoryStore::new();
    let store = ConcurrentCreationStore::new(&tokens, occupy_number);
    let service = ServiceTokens::new(store);
    let new_token = || NewToken::new("ci").with_idempotency_key("8e03978e");
    let created = service.create(new_token()).await.unwrap();
    let id = created.record().id();
    let without_conflict = ServiceTokens::new(MemoryStore::new());
    let without_conflict = without_conflict.create(new_token()).await.unwrap();
    assert_ne!(id, without_conflict.record().id());
    for _ in 0..2 {
        let repeated = service.create(new_token()).await;
        let Err(LifecycleError::AlreadyCreated(record)) = repeated else {
            panic!("{repeated:?}");
        };
        assert_eq!(record.id(), id);
    }
    assert_eq!(tokens.len(), 2);
    assert_eq!(service.get_by_number(id.number()).await.unwrap().id(), id);
}

fn assert_unavailable<T: fmt::Debug>(outcome: Result<T, LifecycleError>) {
    let Err(LifecycleError::Store(error)) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
}

async fn assert_creations_fail(service: &ServiceTokens) {
    let new_token = || NewToken::new("ci");
    assert_unavailable(service.create(new_token()).await);
    let keyed = new_token().with_idempotency_key("8e03978e");
    assert_unavailable(service.create(keyed).await);
    let digest = TokenDigest::of("elsewhere");
    assert_unavailable(service.import(new_token(), digest).await);
}

#[tokio::test]
async fn creation_fails_if_each_id_or_number_is_in_use() {
    let conflicts: [fn(&MemoryStore, &TokenRecord) -> Option<RegistryError>; 2] = [
        |_, _| Some(RegistryError::DuplicateId),
        |_, _| Some(RegistryError::DuplicateNumber),
    ];
    for conflict in conflicts {
        let store = ConcurrentCreationStore::new(&MemoryStore::new(), conflict);
        assert_creations_fail(&ServiceTokens::new(store)).await;
    }
}

#[tokio::test]
async fn creation_fails_if_each_read_finds_another_owner_of_the_holder() {
    let tokens = MemoryStore::new();
    let operator = ServiceTokens::new(tokens.clone());
    let holder = NewToken::new("holder").with_owner("user:1");
    let holder = operator.create(holder).await.unwrap();
    let token = PresentedToken::new(holder.expose_secret()).unwrap();
    let credential = Credential::new(token);
    let record = tokens.find(&credential).await.unwrap();
    let holder = verdict(record, &credential, &SystemClock).unwrap();
    let store = ConcurrentCreationStore {
        transfers: true,
        ..ConcurrentCreationStore::new(&tokens, |_, _| None)
    };
    // Without rules of owners, no rules depend on what was read before.
    let service = ServiceTokens::new(store)
        .with_owner_policies(async |_: String| Ok(TokenPolicy::new()))
        .acting_for(holder);
    assert_creations_fail(&service).await;
    assert_eq!(tokens.len(), 1);
}
