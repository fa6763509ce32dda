use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use crate::digest::TokenDigest;
use crate::registry::{ListRequest, RegistryError, TokenFilter, TokenPage, TokenRegistry, Write};
use crate::store::{
    Cached, ChangeListener, Credential, FeedStatus, StoreError, TokenRecord, TokenStore,
};
use crate::token::TokenId;

/// Wraps a store and injects faults into its calls.
///
/// The current [fault](Self::inject) applies to every call. `find_cached` always returns
/// [`Cached::Miss`], so that every lookup is a call. Clones share the store and the fault.
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
pub struct FaultyStore<S>(Arc<Inner<S>>);

struct Inner<S> {
    store: S,
    /// The fault, and how many calls precede it.
    fault: Mutex<Option<(usize, Fault)>>,
    calls: AtomicUsize,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The call fails and has no effect.
    Error,
    /// The call takes effect and then fails, as if the response were lost.
    LostResponse,
    /// The call never returns and has no effect.
    Hang,
    /// The call is delayed by this duration. Requires a tokio runtime with a timer.
    Delay(Duration),
    /// The call is made twice, as if the network repeated it, and returns the second result.
    Duplicate,
}

impl<S> FaultyStore<S> {
    /// Wraps a store. No fault is injected at first.
    pub fn new(store: S) -> Self {
        Self(Arc::new(Inner {
            store,
            fault: Mutex::default(),
            calls: AtomicUsize::new(0),
        }))
    }

    /// Injects the fault into every call from now on.
    pub fn inject(&self, fault: Fault) {
        self.inject_after(0, fault);
    }

    /// Injects the fault into every call after the next `calls`.
    pub fn inject_after(&self, calls: usize, fault: Fault) {
        *self.fault() = Some((calls, fault));
    }

    /// Removes the fault. Calls that already hang never return.
    pub fn clear_fault(&self) {
        *self.fault() = None;
    }

    /// Returns the number of calls so far.
    pub fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    fn fault(&self) -> MutexGuard<'_, Option<(usize, Fault)>> {
        self.0.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the fault of the next call.
    fn next_fault(&self) -> Option<Fault> {
        let mut scheduled = self.fault();
        let (calls_before, fault) = scheduled.as_mut()?;
        if *calls_before == 0 {
            return Some(*fault);
        }
        *calls_before -= 1;
        None
    }

    /// Calls the wrapped store with the current fault.
    async fn call<'s, T, E, F>(&'s self, call: impl Fn(&'s S) -> F) -> Result<T, E>
    where
        E: From<StoreError>,
        F: Future<Output = Result<T, E>>,
    {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let fault = self.next_fault();
        match fault {
            Some(Fault::Error) => return Err(injected_error().into()),
            Some(Fault::Hang) => pending().await,
            Some(Fault::Delay(duration)) => tokio::time::sleep(duration).await,
            // The second call returns the same error, if any.
            Some(Fault::Duplicate) => drop(call(&self.0.store).await),
            Some(Fault::LostResponse) | None => {}
        }
        let response = call(&self.0.store).await?;
        match fault {
            Some(Fault::LostResponse) => Err(injected_error().into()),
            _ => Ok(response),
        }
    }
}

fn injected_error() -> StoreError {
    StoreError::unavailable("a fault was injected")
}

#[async_trait]
impl<S: TokenStore> TokenStore for FaultyStore<S> {
    fn find_cached(&self, _: &Credential<'_>) -> Cached {
        Cached::Miss
    }

    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        self.call(|store| store.find(credential)).await
    }

    async fn find_uncached(
        &self,
        credential: &Credential<'_>,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.call(|store| store.find_uncached(credential)).await
    }

    async fn find_again(
        &self,
        id: TokenId,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.call(|store| store.find_again(id, digest)).await
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        self.0.store.subscribe(listener);
    }

    fn feed_status(&self) -> FeedStatus {
        self.0.store.feed_status()
    }

    fn reports_changes(&self) -> bool {
        self.0.store.reports_changes()
    }
}

#[async_trait]
impl<S: TokenRegistry> TokenRegistry for FaultyStore<S> {
    async fn insert(&self, write: &Write) -> Result<(), RegistryError> {
        self.call(|store| store.insert(write)).await
    }

    async fn get(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        self.call(|store| store.get(id)).await
    }

    async fn find_by_digest(
        &self,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.call(|store| store.find_by_digest(digest)).await
    }

    async fn list(&self, request: &ListRequest) -> Result<TokenPage, StoreError> {
        self.call(|store| store.list(request)).await
    }

    async fn update(&self, write: &Write) -> Result<TokenRecord, RegistryError> {
        self.call(|store| store.update(write)).await
    }

    async fn update_many(&self, writes: &[Write]) -> Vec<Result<TokenRecord, RegistryError>> {
        let update =
            |store| async move { Ok::<_, StoreError>(S::update_many(store, writes).await) };
        let updated = self.call(update).await;
        let failed = || writes.iter().map(|_| Err(injected_error().into()));
        updated.unwrap_or_else(|_| failed().collect())
    }

    async fn count(&self, filter: &TokenFilter, now: SystemTime) -> Result<u64, StoreError> {
        self.call(|store| store.count(filter, now)).await
    }

    async fn delete(&self, write: &Write) -> Result<(), RegistryError> {
        self.call(|store| store.delete(write)).await
    }

    async fn touch(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        self.call(|store| store.touch(uses)).await
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        self.call(S::check_writable).await
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
