use std::hash::RandomState;
use std::time::{Duration, SystemTime};

use std::sync::Arc;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{UnitWeighter, Weighter};

use super::claims::Claims;
use crate::store::TokenRecord;
use crate::store::key::Key;

/// What the server said, in two bounded maps, so that no number of inactive tokens makes room for
/// itself among the active ones.
pub(super) struct ResponseCache {
    active: Cache<Key, Arc<ActiveEntry>, EntryWeighter, RandomState>,
    /// Until when it is remembered that a token is not active.
    inactive: Cache<Key, Duration, UnitWeighter, RandomState>,
}

/// The answer about an active token.
pub(super) struct ActiveEntry {
    pub(super) claims: Claims,
    pub(super) record: TokenRecord,
    /// Until when it may be told, by the monotonic clock.
    pub(super) until: Duration,
}

/// What is remembered at some time.
pub(super) enum CacheEntry {
    Active(Arc<ActiveEntry>),
    Inactive,
}

impl ActiveEntry {
    /// Whether it may still be told, at this time by either clock.
    fn is_fresh(&self, now: Duration, wall: impl FnOnce() -> SystemTime) -> bool {
        now < self.until && !self.is_expired(wall)
    }

    pub(super) fn is_expired(&self, wall: impl FnOnce() -> SystemTime) -> bool {
        self.claims
            .expires_at
            .is_some_and(|expiry| wall() >= expiry)
    }
}

impl ResponseCache {
    /// Room for so many answers of each sort, and for so many bytes of active ones.
    pub(super) fn new(active: usize, inactive: usize, bytes: u64) -> Self {
        let weighter = EntryWeighter((bytes / active.max(1) as u64).max(1));
        let (hasher, lifecycle) = (RandomState::new(), DefaultLifecycle::default());
        let inactive_lifecycle = DefaultLifecycle::default();
        let units = inactive as u64;
        Self {
            active: Cache::with(active, bytes, weighter, hasher.clone(), lifecycle),
            inactive: Cache::with(inactive, units, UnitWeighter, hasher, inactive_lifecycle),
        }
    }

    /// What may be told now, by the monotonic clock and by the wall clock.
    pub(super) fn get(
        &self,
        key: &Key,
        now: Duration,
        wall: impl FnOnce() -> SystemTime,
    ) -> Option<CacheEntry> {
        if let Some(entry) = self.active.get(key)
            && entry.is_fresh(now, wall)
        {
            return Some(CacheEntry::Active(entry));
        }
        let until = self.inactive.get(key)?;
        (now < until).then_some(CacheEntry::Inactive)
    }

    /// What is known of an active token, however old.
    pub(super) fn last_known(&self, key: &Key) -> Option<Arc<ActiveEntry>> {
        self.active.get(key)
    }

    pub(super) fn insert_active(&self, key: Key, entry: Arc<ActiveEntry>) {
        self.inactive.remove(&key);
        self.active.insert(key, entry);
    }

    pub(super) fn insert_inactive(&self, key: Key, until: Duration) {
        self.active.remove(&key);
        self.inactive.insert(key, until);
    }

    pub(super) fn remove(&self, key: &Key) {
        self.active.remove(key);
        self.inactive.remove(key);
    }

    pub(super) fn clear(&self) {
        self.active.clear();
        self.inactive.clear();
    }

    /// How many answers of each sort there are, outdated ones included.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.active.len(), self.inactive.len())
    }
}

/// An answer's weight in bytes, and at least so much that the number of answers is bounded too.
#[derive(Clone)]
struct EntryWeighter(u64);

impl Weighter<Key, Arc<ActiveEntry>> for EntryWeighter {
    fn weight(&self, _: &Key, entry: &Arc<ActiveEntry>) -> u64 {
        self.0.max(entry.claims.weight())
    }
}
