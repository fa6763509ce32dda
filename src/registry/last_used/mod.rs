use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use papaya::HashMap;

use super::TokenRegistry;
use crate::clock::UnixMillis;
use crate::store::StoreError;
use crate::token::TokenId;

#[cfg(feature = "tokio")]
mod flush_task;

#[cfg(feature = "tokio")]
pub use self::flush_task::FlushTask;

/// A use within this time of the last recorded one is skipped, so that requests with the same token
/// do not contend for a cache line.
const RESOLUTION_MILLIS: i64 = 1000;
const DEFAULT_CAPACITY: usize = 100_000;
const BATCH_SIZE: usize = 500;

/// Records when tokens were last used, and writes the times to a store in batches, never on the
/// request path.
///
/// 1. [`record`](Self::record) records a use in memory, to the second, without a lock. A layer
///    [with last uses](crate::ServiceTokenLayer::with_last_used) calls it for each accepted
///    request.
/// 2. [`flush`](Self::flush) writes one entry for each used token. With the feature `tokio`,
///    [`flush_every`](Self::flush_every) flushes at an interval.
/// 3. At most 100,000 tokens are recorded between two flushes. Uses of others are
///    [dropped](Self::dropped) and counted, also in the metric
///    `service_token_last_used_dropped_total` (feature `metrics`). A failed write is repeated at
///    the next flush.
/// 4. Uses that were not flushed when the process ends are lost. If a token is used during a flush,
///    the time of its previous use may be written.
///
/// Any registry can be written to, and any other store that is a [`LastUsedStore`].
///
/// Clones share the recorded uses.
///
/// ```
/// use std::time::SystemTime;
/// use tower_service_token::registry::LastUsed;
/// use tower_service_token::{MemoryStore, ServiceTokenLayer};
///
/// # futures::executor::block_on(async {
/// let store = MemoryStore::new();
/// let last_used = LastUsed::new(store.clone());
/// let layer = ServiceTokenLayer::new(store).with_last_used(last_used.clone());
/// // … requests …
/// last_used.flush().await?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # }).expect("no step fails");
/// ```
#[derive(Clone)]
pub struct LastUsed(Arc<Inner>);

/// A store that last-used times can be written to. Every [`TokenRegistry`] is one.
///
/// Implement it for a store of your own that is not a registry:
///
/// ```
/// use std::time::SystemTime;
/// use tower_service_token::async_trait;
/// use tower_service_token::registry::{LastUsed, LastUsedStore};
/// use tower_service_token::store::StoreError;
/// use tower_service_token::token::TokenId;
///
/// struct Database; // a pool, a client, …
///
/// impl Database {
///     async fn execute(&self, id: i64, at: SystemTime) -> std::io::Result<()> {
///         Ok(()) // `UPDATE api_keys SET last_used_at = greatest(last_used_at, $2) WHERE id = $1`
///     }
/// }
///
/// #[async_trait]
/// impl LastUsedStore for Database {
///     async fn write_last_used(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
///         for (id, at) in uses {
///             let written = self.execute(id.as_i64(), *at).await;
///             written.map_err(StoreError::unavailable)?;
///         }
///         Ok(())
///     }
/// }
///
/// let last_used = LastUsed::new(Database);
/// ```
#[async_trait]
pub trait LastUsedStore: Send + Sync + 'static {
    /// Writes when tokens were last used, at most 500 of them. Each id occurs once.
    ///
    /// Move a time only forward, because a failed write is repeated, and skip unknown ids.
    ///
    /// # Errors
    ///
    /// Returns an error if the store is unavailable. Some of the times may be written.
    async fn write_last_used(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError>;
}

#[async_trait]
impl<R: TokenRegistry> LastUsedStore for R {
    async fn write_last_used(&self, uses: &[(TokenId, SystemTime)]) -> Result<(), StoreError> {
        self.touch(uses).await
    }
}

struct Inner {
    store: Arc<dyn LastUsedStore>,
    uses: HashMap<TokenId, AtomicI64>,
    capacity: usize,
    dropped: AtomicU64,
}

impl LastUsed {
    /// Creates a collector for the tokens of this store.
    pub fn new(store: impl LastUsedStore) -> Self {
        Self::with_capacity(store, DEFAULT_CAPACITY)
    }

    /// Creates a collector as [`new`](Self::new) does, with another number of tokens recorded
    /// between two flushes.
    pub fn with_capacity(store: impl LastUsedStore, capacity: usize) -> Self {
        Self(Arc::new(Inner {
            store: Arc::new(store),
            uses: HashMap::new(),
            capacity,
            dropped: AtomicU64::new(0),
        }))
    }

    /// Records that the token was used at this time.
    pub fn record(&self, id: TokenId, at: SystemTime) {
        let millis = UnixMillis::from(at).as_millis();
        let uses = self.0.uses.pin();
        if let Some(known) = uses.get(&id) {
            if millis.saturating_sub(known.load(Ordering::Relaxed)) >= RESOLUTION_MILLIS {
                known.fetch_max(millis, Ordering::Relaxed);
            }
        } else if uses.len() < self.0.capacity {
            let known = uses.get_or_insert_with(id, || AtomicI64::new(millis));
            known.fetch_max(millis, Ordering::Relaxed);
        } else {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            #[cfg(feature = "metrics")]
            metrics::counter!("service_token_last_used_dropped_total").increment(1);
        }
    }

    /// Writes the recorded uses. Returns the number of tokens.
    ///
    /// # Errors
    ///
    /// Returns an error if the store is unavailable. Uses that were not written stay recorded.
    pub async fn flush(&self) -> Result<usize, StoreError> {
        let mut batch = Batch {
            owner: self,
            uses: self.take(),
        };
        let count = batch.uses.len();
        while !batch.uses.is_empty() {
            let rest = batch.uses.len().saturating_sub(BATCH_SIZE);
            self.0.store.write_last_used(&batch.uses[rest..]).await?;
            batch.uses.truncate(rest);
        }
        Ok(count)
    }

    /// Returns the number of uses that were dropped because too many tokens were in use.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    fn take(&self) -> Vec<(TokenId, SystemTime)> {
        let uses = self.0.uses.pin();
        let ids: Vec<TokenId> = uses.keys().copied().collect();
        let taken = ids.into_iter().filter_map(|id| {
            let millis = uses.remove(&id)?.load(Ordering::Relaxed);
            Some((id, UnixMillis::from_millis(millis).into()))
        });
        taken.collect()
    }
}

/// The uses to write. The rest is recorded again on drop, because a write may fail or be canceled.
struct Batch<'a> {
    owner: &'a LastUsed,
    uses: Vec<(TokenId, SystemTime)>,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for (id, at) in self.uses.drain(..) {
            self.owner.record(id, at);
        }
    }
}

impl fmt::Debug for LastUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastUsed")
            .field("waiting", &self.0.uses.len())
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}
