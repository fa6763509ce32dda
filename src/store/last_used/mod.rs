use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::SystemTime;

use papaya::HashMap;

use super::{StoreError, TokenRegistry};
use crate::clock::Timestamp;
use crate::token::TokenId;

#[cfg(feature = "tokio")]
mod flush_task;

#[cfg(feature = "tokio")]
pub use self::flush_task::FlushTask;

/// Within this time a token's next use is not noted anew: a hot token's line stays unwritten.
const RESOLUTION_MILLIS: i64 = 1000;
const DEFAULT_CAPACITY: usize = 100_000;
const BATCH_SIZE: usize = 500;

/// Gathers when tokens were last used, and writes it to a registry in batches: never while a
/// request waits.
///
/// 1. [`record`](Self::record) notes a use, to the second, in memory. It takes no lock. The layer
///    calls it for each request it lets through, if it is
///    [told to](crate::ServiceTokenLayer::with_last_used).
/// 2. [`flush`](Self::flush) writes what was gathered, one entry for each token, however often it
///    was used. With the feature `tokio`, [`flush_every`](Self::flush_every) does so at an
///    interval.
/// 3. At most 100,000 tokens are noted between two flushes; uses of others are
///    [dropped](Self::dropped) and counted, by the feature `metrics` as
///    `service_token_last_used_dropped_total` too. What could not be written is kept for the next
///    flush.
/// 4. What was not flushed when the process ends is lost. Of a use in the very moment of a flush,
///    the time of the one before may be written.
///
/// Clones share what they gather.
///
/// ```
/// use std::time::SystemTime;
/// use tower_service_token::store::LastUsed;
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

struct Inner {
    registry: Arc<dyn TokenRegistry>,
    uses: HashMap<TokenId, AtomicI64>,
    capacity: usize,
    dropped: AtomicU64,
}

impl LastUsed {
    /// For the tokens of this registry.
    pub fn new(registry: impl TokenRegistry) -> Self {
        Self::with_capacity(registry, DEFAULT_CAPACITY)
    }

    /// As [`new`](Self::new), for another number of tokens noted between two flushes.
    pub fn with_capacity(registry: impl TokenRegistry, capacity: usize) -> Self {
        Self(Arc::new(Inner {
            registry: Arc::new(registry),
            uses: HashMap::new(),
            capacity,
            dropped: AtomicU64::new(0),
        }))
    }

    /// Notes that the token was used at this time.
    pub fn record(&self, id: TokenId, at: SystemTime) {
        let millis = Timestamp::from(at).as_millis();
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

    /// Writes what was gathered, and says of how many tokens.
    ///
    /// # Errors
    ///
    /// The registry could not be asked. What was not written is kept.
    pub async fn flush(&self) -> Result<usize, StoreError> {
        let mut batch = Batch {
            owner: self,
            uses: self.take(),
        };
        let count = batch.uses.len();
        while !batch.uses.is_empty() {
            let rest = batch.uses.len().saturating_sub(BATCH_SIZE);
            self.0.registry.touch(&batch.uses[rest..]).await?;
            batch.uses.truncate(rest);
        }
        Ok(count)
    }

    /// How many uses were not noted because too many tokens were in use.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    fn take(&self) -> Vec<(TokenId, SystemTime)> {
        let uses = self.0.uses.pin();
        let ids: Vec<TokenId> = uses.keys().copied().collect();
        let taken = ids.into_iter().filter_map(|id| {
            let millis = uses.remove(&id)?.load(Ordering::Relaxed);
            Some((id, Timestamp::from_millis(millis).into()))
        });
        taken.collect()
    }
}

/// What is being written. What is left of it when it is dropped goes back: the writer may have
/// failed, or been dropped itself.
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
