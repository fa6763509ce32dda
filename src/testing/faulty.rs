use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use crate::digest::TokenDigest;
use crate::registry::{ListRequest, RegistryError, TokenFilter, TokenPage, TokenRegistry, Write};
use crate::store::{
    Cached, ChangeListener, Credential, FeedStatus, StoreError, TokenRecord, TokenStore,
};
use crate::token::TokenId;

/// A store that does to another what the world does to stores.
///
/// Every call suffers the [fault](Self::inject) of the moment. `find_cached` always says
/// [`Cached::Miss`], so that every lookup is a call. Clones share everything.
///
/// ```
/// use tower_service_token::lifecycle::{LifecycleError, NewToken};
/// use tower_service_token::testing::{Fault, FaultyStore};
/// use tower_service_token::{MemoryStore, ServiceTokens};
///
/// # futures::executor::block_on(async {
/// let store = FaultyStore::new(MemoryStore::new());
/// let tokens = ServiceTokens::new(store.clone());
/// store.inject(Fault::Error);
/// let error = tokens.create(NewToken::new("ci")).await.unwrap_err();
/// assert!(matches!(error, LifecycleError::Store(_)));
/// store.clear_fault();
/// assert!(tokens.create(NewToken::new("ci")).await.is_ok());
/// # });
/// ```
pub struct FaultyStore<S>(Arc<Faulty<S>>);

struct Faulty<S> {
    store: S,
    fault: Mutex<Option<ScheduledFault>>,
    calls: AtomicUsize,
}

/// A fault, and how many calls pass before it.
#[derive(Clone, Copy, Debug)]
struct ScheduledFault {
    fault: Fault,
    calls_before: usize,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It fails, and nothing is done.
    Error,
    /// It is done, and then fails: the answer was lost.
    LostResponse,
    /// It never returns, and nothing is done.
    Hang,
    /// It is done after this time. Needs a tokio runtime with a timer.
    Delay(Duration),
    /// It is done twice, as by a network that repeats; the second answer counts.
    Duplicate,
}

impl<S> FaultyStore<S> {
    /// Wraps a store. No fault is injected at first.
    pub fn new(store: S) -> Self {
        Self(Arc::new(Faulty {
            store,
            fault: Mutex::new(None),
            calls: AtomicUsize::new(0),
        }))
    }

    /// Injects the fault into every call from now on.
    pub fn inject(&self, fault: Fault) {
        self.inject_after(0, fault);
    }

    /// Injects the fault into every call after the next `calls`.
    pub fn inject_after(&self, calls: usize, fault: Fault) {
        let calls_before = calls;
        *self.fault() = Some(ScheduledFault {
            fault,
            calls_before,
        });
    }

    /// Removes the fault. Calls that hang already keep hanging.
    pub fn clear_fault(&self) {
        *self.fault() = None;
    }

    /// Returns the number of calls so far.
    pub fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// Returns the fault of the next call.
    fn next_fault(&self) -> Option<Fault> {
        let mut fault = self.fault();
        let pending = fault.as_mut()?;
        if pending.calls_before > 0 {
            pending.calls_before -= 1;
            return None;
        }
        Some(pending.fault)
    }

    fn fault(&self) -> std::sync::MutexGuard<'_, Option<ScheduledFault>> {
        self.0.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies the part of the fault before a call, and returns how to make the call.
    async fn before_call(&self) -> Result<CallMode, StoreError> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        match self.next_fault() {
            None => Ok(CallMode::Once),
            Some(Fault::Error) => Err(injected_error()),
            Some(Fault::LostResponse) => Ok(CallMode::LoseResponse),
            Some(Fault::Hang) => pending().await,
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                Ok(CallMode::Once)
            }
            Some(Fault::Duplicate) => Ok(CallMode::Twice),
        }
    }
}

impl<S: TokenRegistry> FaultyStore<S> {
    /// Makes several updates as one call. An error means that their outcome is lost.
    async fn update_all(
        &self,
        writes: &[Write],
    ) -> Result<Vec<Result<TokenRecord, RegistryError>>, ()> {
        let mode = self.before_call().await.map_err(drop)?;
        let store = &self.0.store;
        if mode == CallMode::Twice {
            let _ = store.update_many(writes).await;
        }
        let updated = store.update_many(writes).await;
        if mode == CallMode::LoseResponse {
            return Err(());
        }
        Ok(updated)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CallMode {
    Once,
    Twice,
    LoseResponse,
}

fn injected_error() -> StoreError {
    StoreError::unavailable("a fault was injected")
}

/// Calls the wrapped store with the current fault.
macro_rules! call_with_fault {
    ($self:ident, $store:ident => $call:expr) => {{
        let mode = $self.before_call().await?;
        let $store = &$self.0.store;
        if mode == CallMode::Twice {
            // An error here is met by the second call as well.
            let _ = $call;
        }
        let answer = $call;
        if mode == CallMode::LoseResponse {
            answer?;
            return Err(injected_error().into());
        }
        answer
    }};
}

#[async_trait]
impl<S: TokenStore> TokenStore for FaultyStore<S> {
    fn find_cached(&self, _: &Credential<'_>) -> Cached {
        Cached::Miss
    }

    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        call_with_fault!(self, store => store.find(credential).await)
    }

    async fn find_uncached(
        &self,
        credential: &Credential<'_>,
    ) -> Result<Option<TokenRecord>, StoreError> {
        call_with_fault!(self, store => store.find_uncached(credential).await)
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.0.store.subscribe(listener);
    }

    fn feed_status(&self) -> FeedStatus {
        self.0.store.feed_status()
    }
}

#[async_trait]
impl<S: TokenRegistry> TokenRegistry for FaultyStore<S> {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        call_with_fault!(self, store => store.insert(write).await)
    }

    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        call_with_fault!(self, store => store.get(id).await)
    }

    async fn find_by_digest(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        call_with_fault!(self, store => store.find_by_digest(digest).await)
    }

    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
        call_with_fault!(self, store => store.list(request).await)
    }

    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        call_with_fault!(self, store => store.update(write).await)
    }

    async fn update_many(&self, writes: &[Write]) -> Vec<Result<TokenRecord, RegistryError>> {
        match self.update_all(writes).await {
            Ok(updated) => updated,
            Err(()) => writes
                .iter()
                .map(|_| Err(injected_error().into()))
                .collect(),
        }
    }

    async fn count(&self, filter: &TokenFilter, now: SystemTime) -> Result<u64, StoreError> {
        call_with_fault!(self, store => store.count(filter, now).await)
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        call_with_fault!(self, store => store.delete(write).await)
    }

    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        call_with_fault!(self, store => store.touch(uses).await)
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        call_with_fault!(self, store => store.check_writable().await)
    }

    fn effective_within(&self) -> Duration {
        self.0.store.effective_within()
    }
}

impl<S> Clone for FaultyStore<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for FaultyStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore")
            .field("fault", &*self.fault())
            .finish_non_exhaustive()
    }
}
