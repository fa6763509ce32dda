//! A store without `find_cached`. Tests can pause and count its lookups and make them fail.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tests::pause_point::PausePoint;
use tower_service_token::digest::TokenDigest;
use tower_service_token::registry::{ListRequest, RegistryError, TokenPage, TokenRegistry, Write};
use tower_service_token::store::{ChangeListener, Credential, StoreError, TokenRecord};
use tower_service_token::token::TokenId;
use tower_service_token::{MemoryStore, TokenStore};

/// Clones share all state.
#[derive(Clone)]
pub(crate) struct RemoteStore(Arc<State>);

struct State {
    tokens: MemoryStore,
    has_feed: bool,
    lookups: AtomicUsize,
    before_read: PausePoint,
    after_read: PausePoint,
    fault: Mutex<Fault>,
}

/// The way in which lookups fail.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Down,
    Panic,
    Hang,
}

impl RemoteStore {
    pub(crate) fn new(tokens: &MemoryStore) -> Self {
        Self::with(tokens, true)
    }

    /// Creates a store that sends no change notifications.
    pub(crate) fn without_feed(tokens: &MemoryStore) -> Self {
        Self::with(tokens, false)
    }

    fn with(tokens: &MemoryStore, has_feed: bool) -> Self {
        Self(Arc::new(State {
            tokens: tokens.clone(),
            has_feed,
            lookups: AtomicUsize::new(0),
            before_read: PausePoint::open(),
            after_read: PausePoint::open(),
            fault: Mutex::new(Fault::None),
        }))
    }

    /// Returns how many lookups started.
    pub(crate) fn lookups(&self) -> usize {
        self.0.lookups.load(Ordering::SeqCst)
    }

    pub(crate) fn before_read(&self) -> &PausePoint {
        &self.0.before_read
    }

    pub(crate) fn after_read(&self) -> &PausePoint {
        &self.0.after_read
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        *self.0.fault.lock().unwrap() = fault;
    }

    fn fault(&self) -> Fault {
        *self.0.fault.lock().unwrap()
    }
}

#[async_trait]
impl TokenStore for RemoteStore {
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.0.lookups.fetch_add(1, Ordering::SeqCst);
        self.0.before_read.pass().await;
        match self.fault() {
            Fault::None => {}
            Fault::Down => return Err(StoreError::unavailable("connection refused")),
            Fault::Panic => panic!("the scripted panic"),
            Fault::Hang => std::future::pending().await,
        }
        let found = self.0.tokens.find(credential).await;
        self.0.after_read.pass().await;
        found
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        if self.0.has_feed {
            self.0.tokens.subscribe(listener);
        }
    }

    fn feed_delay(&self) -> Option<Duration> {
        if self.0.has_feed {
            self.0.tokens.feed_delay()
        } else {
            None
        }
    }
}

#[async_trait]
impl TokenRegistry for RemoteStore {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        TokenRegistry::insert(&self.0.tokens, write).await
    }

    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        TokenRegistry::get(&self.0.tokens, id).await
    }

    async fn find_by_digest(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.0.tokens.find_by_digest(digest).await
    }

    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
        self.0.tokens.list(request).await
    }

    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        self.0.tokens.update(write).await
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        self.0.tokens.delete(write).await
    }

    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        self.0.tokens.touch(uses).await
    }
}
