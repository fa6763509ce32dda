//! A cache whose concurrent misses share one lookup.
//!
//! 1. Callers that miss the same key wait for one lookup. The caller that starts it runs it in a task
//!    of its own, so a caller that is dropped cancels nothing. A lookup that is dropped, because it
//!    panicked or its runtime was shut down, fails the callers that wait for it.
//! 2. A lookup that has been running for longer than the TTL is not joined, because its result would
//!    already be stale. The next caller starts another one, and the older result is not cached.
//! 3. An invalidation that races a lookup wins. A lookup checks for invalidations and fills the cache
//!    under the same lock under which an invalidation evicts the entry and marks the running lookups.
//!    Hits do not take that lock.
//! 4. A limited number of lookups run at a time. Callers beyond it wait for a while, then fail.
//!
//! Each store has its own policy: what it caches for how long, what [an invalidation
//! does](OnInvalidation) to a running lookup, and whether a failure is retried.

mod entries;
mod hits;
mod policy;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{FutureExt, Shared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub(crate) use self::entries::{CacheKey, Entries, Entry, EntryKind};
pub(crate) use self::hits::HitCounters;
pub(crate) use self::policy::{MAX_NEGATIVE_TTL, OnInvalidation, Policy};

/// Cached values of type `T`, and the lookups in progress, whose callers wait for a `R`.
pub(crate) struct SingleFlight<T, R> {
    /// To be changed only by [`Lookup::complete`] and by invalidations.
    pub(crate) entries: Entries<T>,
    running: Mutex<Running<R>>,
    permits: Arc<Semaphore>,
    pub(crate) policy: Policy<T>,
}

/// A result that several callers wait for. It is an error if the lookup was dropped.
pub(crate) type SharedResult<R> = Shared<oneshot::Receiver<R>>;

/// How a caller gets its result.
pub(crate) enum Admission<T, R> {
    Cached(Entry<T>),
    Joined(SharedResult<R>),
    /// The caller must run the lookup, in a task of its own.
    Started(Lookup<T, R>, SharedResult<R>),
    AtCapacity,
}

/// A lookup in progress. Dropping it fails the callers that wait for it.
pub(crate) struct Lookup<T, R> {
    lookups: Arc<SingleFlight<T, R>>,
    key: CacheKey,
    number: u64,
    /// The invalidations that the lookup accounts for.
    invalidations: u64,
    /// When the lookup started or restarted, by the monotonic clock.
    pub(crate) started: Duration,
    sender: Option<oneshot::Sender<R>>,
    is_registered: bool,
    _permit: OwnedSemaphorePermit,
}

type Running<R> = HashMap<CacheKey, InFlight<R>, RandomState>;

/// The lookups for one key: one, and those that have been running for longer than the TTL.
struct InFlight<R> {
    lookups: usize,
    /// The number of the latest one.
    latest: u64,
    started: Duration,
    /// How often the key was invalidated since the first of these lookups.
    invalidations: u64,
    /// `None` if the latest lookup must not be joined.
    shared: Option<SharedResult<R>>,
}

impl<T: Clone, R: Clone> SingleFlight<T, R> {
    pub(crate) fn new(policy: Policy<T>) -> Arc<Self> {
        let permits = policy.max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            entries: Entries::new(&policy),
            running: Mutex::default(),
            permits: Arc::new(Semaphore::new(permits)),
            policy,
        })
    }

    /// Returns the entry for `key`, without waiting.
    pub(crate) fn get(&self, key: &CacheKey) -> Option<Entry<T>> {
        self.get_at(key, self.now())
    }

    fn get_at(&self, key: &CacheKey, now: Duration) -> Option<Entry<T>> {
        let entry = self.entries.get(key, now);
        entry.filter(|entry| (self.policy.is_current)(&entry.value, &*self.policy.clock))
    }

    /// Returns the entry for `key`, joins its lookup, or starts one.
    pub(crate) async fn join_or_start(self: &Arc<Self>, key: CacheKey) -> Admission<T, R> {
        if let Some(admission) = self.admit(key, None) {
            return admission;
        }
        let permit = Arc::clone(&self.permits).acquire_owned();
        match timeout(self.policy.permit_timeout, permit).await {
            Ok(Ok(permit)) => self.admit(key, Some(permit)),
            _ => None,
        }
        .unwrap_or(Admission::AtCapacity)
    }

    /// Returns `None` if a permit is needed and there is none.
    fn admit(
        self: &Arc<Self>,
        key: CacheKey,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Option<Admission<T, R>> {
        let now = self.now();
        let mut running = self.running();
        if let Some(entry) = self.get_at(&key, now) {
            return Some(Admission::Cached(entry));
        }
        if let Some(in_flight) = running.get(&key)
            && now.saturating_sub(in_flight.started) < self.policy.ttl
            && let Some(shared) = &in_flight.shared
        {
            return Some(Admission::Joined(shared.clone()));
        }
        let permit = permit.or_else(|| Arc::clone(&self.permits).try_acquire_owned().ok())?;
        let (sender, receiver) = oneshot::channel();
        let shared = receiver.shared();
        let in_flight = running.entry(key).or_insert(InFlight {
            lookups: 0,
            latest: 0,
            started: now,
            invalidations: 0,
            shared: None,
        });
        in_flight.lookups += 1;
        in_flight.latest += 1;
        in_flight.started = now;
        in_flight.shared = Some(shared.clone());
        let lookup = Lookup {
            lookups: Arc::clone(self),
            key,
            number: in_flight.latest,
            invalidations: in_flight.invalidations,
            started: now,
            sender: Some(sender),
            is_registered: true,
            _permit: permit,
        };
        Some(Admission::Started(lookup, shared))
    }

    /// Evicts the entries for `keys`. No caller from now on gets a result that was read before.
    pub(crate) fn invalidate(&self, keys: impl IntoIterator<Item = CacheKey>) {
        let mut running = self.running();
        for key in keys {
            self.entries.remove(&key);
            if let Some(in_flight) = running.get_mut(&key) {
                in_flight.invalidate(self.policy.on_invalidation);
            }
        }
    }

    /// Does the same as [`invalidate`](Self::invalidate) for all keys whose value is not kept, and for
    /// those of all lookups, whose values are not known yet. Visits every entry.
    pub(crate) fn retain(&self, is_kept: impl Fn(&T) -> bool) {
        self.invalidate_all(|entries| entries.retain(is_kept));
    }

    /// Does the same as [`invalidate`](Self::invalidate) for all keys.
    pub(crate) fn clear(&self) {
        self.invalidate_all(Entries::clear);
    }

    fn invalidate_all(&self, evict: impl FnOnce(&Entries<T>)) {
        let mut running = self.running();
        evict(&self.entries);
        for in_flight in running.values_mut() {
            in_flight.invalidate(self.policy.on_invalidation);
        }
    }
}

impl<T, R> SingleFlight<T, R> {
    /// Returns the number of lookups in progress.
    pub(crate) fn in_flight(&self) -> usize {
        let running = self.running();
        running.values().map(|it| it.lookups).sum()
    }

    fn now(&self) -> Duration {
        self.policy.clock.monotonic()
    }

    /// No panic under the lock leaves a change half made.
    fn running(&self) -> MutexGuard<'_, Running<R>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> InFlight<R> {
    fn invalidate(&mut self, on_invalidation: OnInvalidation) {
        self.invalidations += 1;
        if on_invalidation == OnInvalidation::Detach {
            self.shared = None;
        }
    }
}

impl<T, R> Lookup<T, R> {
    pub(crate) fn policy(&self) -> &Policy<T> {
        &self.lookups.policy
    }

    /// Ends the lookup and calls `update` with its key, unless a newer lookup of the key was started.
    ///
    /// Returns false, and does neither, if the key was invalidated since the lookup started.
    pub(crate) fn complete(&mut self, update: impl FnOnce(&Entries<T>, CacheKey)) -> bool {
        let lookups = Arc::clone(&self.lookups);
        let mut running = lookups.running();
        let in_flight = self.in_flight(&mut running);
        if in_flight.invalidations != self.invalidations {
            return false;
        }
        if in_flight.latest == self.number {
            update(&lookups.entries, self.key);
        }
        self.deregister(&mut running);
        true
    }

    /// Starts the lookup again after [`complete`](Self::complete) returned false.
    pub(crate) fn restart(&mut self) {
        let lookups = Arc::clone(&self.lookups);
        let (now, mut running) = (lookups.now(), lookups.running());
        let in_flight = self.in_flight(&mut running);
        (self.invalidations, self.started) = (in_flight.invalidations, now);
        if in_flight.latest == self.number {
            in_flight.started = now;
        }
    }

    /// Ends the lookup and sends `result` to the callers that wait for it.
    pub(crate) fn finish(mut self, result: R) {
        // First, so that callers that retry after a failure start a new lookup.
        self.end();
        if let Some(sender) = self.sender.take() {
            // All callers may have been dropped.
            let _ = sender.send(result);
        }
    }

    fn end(&mut self) {
        if self.is_registered {
            let lookups = Arc::clone(&self.lookups);
            self.deregister(&mut lookups.running());
        }
    }

    fn in_flight<'a>(&self, running: &'a mut Running<R>) -> &'a mut InFlight<R> {
        let in_flight = running.get_mut(&self.key);
        in_flight.expect("a registered lookup is in the map")
    }

    fn deregister(&mut self, running: &mut Running<R>) {
        self.is_registered = false;
        let in_flight = self.in_flight(running);
        in_flight.lookups -= 1;
        if in_flight.lookups == 0 {
            running.remove(&self.key);
        } else if in_flight.latest == self.number {
            // An older lookup is still running. Its result must not be joined either.
            in_flight.shared = None;
        }
    }
}

impl<T, R> Drop for Lookup<T, R> {
    fn drop(&mut self) {
        self.end();
    }
}
