//! A registry that records every write, and that can run a concurrent change before a write.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use futures::future::BoxFuture;
use tower_service_token::digest::TokenDigest;
use tower_service_token::registry::{
    ListRequest, RegistryError, TokenFilter, TokenPage, TokenRegistry, Write,
};
use tower_service_token::store::{Cached, ChangeListener, Credential, StoreError, TokenRecord};
use tower_service_token::token::TokenId;
use tower_service_token::{MemoryStore, TokenStore};

/// All records by ID.
pub(crate) type Snapshot = BTreeMap<TokenId, TokenRecord>;

/// All records immediately before and after one write.
pub(crate) struct Commit {
    pub(crate) before: Snapshot,
    pub(crate) after: Snapshot,
}

/// Wraps a memory store. A test can schedule a change that precedes the next write, as if another
/// node made it.
#[derive(Clone)]
pub(crate) struct RecordingRegistry {
    pub(crate) store: MemoryStore,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    concurrent_change: Option<BoxFuture<'static, ()>>,
    commits: Vec<Commit>,
}

impl RecordingRegistry {
    pub(crate) fn new() -> Self {
        Self {
            store: MemoryStore::new(),
            state: Arc::default(),
        }
    }

    /// Schedules a change that runs after the checks for the next write and before the write
    /// itself.
    pub(crate) fn schedule_change(&self, change: BoxFuture<'static, ()>) {
        self.state.lock().unwrap().concurrent_change = Some(change);
    }

    /// Returns the writes since the last call, and drops a scheduled change that did not run.
    pub(crate) fn take(&self) -> Vec<Commit> {
        let mut state = self.state.lock().unwrap();
        state.concurrent_change = None;
        std::mem::take(&mut state.commits)
    }

    pub(crate) async fn snapshot(&self) -> Snapshot {
        let request = ListRequest::new(TokenFilter::new(), SystemTime::UNIX_EPOCH);
        let request = request.with_limit(ListRequest::MAX_LIMIT);
        let page = self.store.list(&request).await.unwrap();
        assert!(page.next.is_none());
        let records = page.records.into_iter();
        records.map(|record| (record.id(), record)).collect()
    }

    async fn begin(&self) -> Snapshot {
        self.run_scheduled_change().await;
        self.snapshot().await
    }

    async fn run_scheduled_change(&self) {
        let concurrent_change = self.state.lock().unwrap().concurrent_change.take();
        if let Some(concurrent_change) = concurrent_change {
            concurrent_change.await;
        }
    }

    async fn end(&self, before: Snapshot) {
        let after = self.snapshot().await;
        let commit = Commit { before, after };
        self.state.lock().unwrap().commits.push(commit);
    }
}

#[async_trait]
impl TokenStore for RecordingRegistry {
    fn find_cached(&self, credential: &Credential<'_>) -> Cached {
        self.store.find_cached(credential)
    }

    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.store.find(credential).await
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.store.subscribe(listener);
    }
}

#[async_trait]
impl TokenRegistry for RecordingRegistry {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        let before = self.begin().await;
        let inserted = TokenRegistry::insert(&self.store, write).await;
        self.end(before).await;
        inserted
    }

    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        TokenRegistry::get(&self.store, id).await
    }

    async fn find_by_digest(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.store.find_by_digest(digest).await
    }

    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
        self.store.list(request).await
    }

    /// Runs the scheduled change. Bulk revocation counts after it has matched the tokens and before
    /// it reads those that it revokes.
    async fn count(&self, filter: &TokenFilter, now: SystemTime) -> Result<u64, StoreError> {
        self.run_scheduled_change().await;
        self.store.count(filter, now).await
    }

    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        let before = self.begin().await;
        let updated = TokenRegistry::update(&self.store, write).await;
        self.end(before).await;
        updated
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        let before = self.begin().await;
        let deleted = TokenRegistry::delete(&self.store, write).await;
        self.end(before).await;
        deleted
    }

    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        self.store.touch(uses).await
    }
}
