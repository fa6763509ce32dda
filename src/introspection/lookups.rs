use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{FutureExt, Shared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::cache::{ActiveEntry, CacheEntry};
use super::core::Core;
use super::error::IntrospectionError;
use super::lookup::Lookup;
use crate::store::key::Key;

/// What a call found, for all who wait for it.
#[derive(Clone)]
pub(super) enum LookupResponse {
    Active(Arc<ActiveEntry>),
    /// There is no such token, as far as the server tells.
    Inactive,
    Failed(IntrospectionError, SharedRetry),
    /// What it found was asked to be forgotten meanwhile; who waits must look again.
    Invalidated,
}

/// An answer that several requests wait for.
pub(super) type SharedResult = Shared<oneshot::Receiver<LookupResponse>>;

/// The one call that all who waited for a failed one share.
pub(super) type SharedRetry = Arc<tokio::sync::Mutex<Option<SharedResult>>>;

/// The calls that are running.
///
/// The lock is the one under which a flight begins, finds out whether it was overtaken, and fills
/// the memory; and under which the memory is emptied. Hits do not take it.
pub(super) struct Lookups {
    running: Mutex<Running>,
    permits: Arc<Semaphore>,
    max: usize,
}

#[derive(Default)]
struct Running {
    by_key: HashMap<Key, InFlight, RandomState>,
    last_number: u64,
}

/// The flights for one token: one, and those that take longer than an answer may be old.
struct InFlight {
    lookups: usize,
    latest: u64,
    started: Duration,
    /// How often the token was asked to be forgotten since the first of these flights.
    invalidations: u64,
    /// Nobody joins a flight whose token was asked to be forgotten.
    shared: Option<SharedResult>,
}

/// What a flight knows of itself.
pub(super) struct LookupId {
    pub(super) key: Key,
    number: u64,
    invalidations: u64,
    pub(super) started: Duration,
}

/// What may be done with what a flight found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Cached, and sent to the waiting requests.
    Latest,
    /// Only sent to the waiting requests. A newer flight knows better.
    Older,
    /// Nothing: it was asked to be forgotten meanwhile.
    Invalidated,
}

/// Where a request gets its answer from.
pub(super) enum Admission {
    Cached(CacheEntry),
    Joined(SharedResult),
    /// The flight is to be spawned by the caller; dropped, it fails all who joined it.
    Started(Box<Lookup>, SharedResult),
    /// There is no permit for a call.
    AtCapacity,
    /// The server is not asked for this long.
    BreakerOpen(Duration),
}

impl Lookups {
    pub(super) fn new(max: usize) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            running: Mutex::default(),
            permits: Arc::new(Semaphore::new(max)),
            max,
        }
    }

    /// The permits that bound the number of calls.
    pub(super) fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.permits)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.max - self.permits.available_permits()
    }

    /// Joins the call about this token or begins one, with the permit if one was waited for.
    ///
    /// A call that began as long ago as the time to live is not joined: its answer would be older
    /// than what may still be told.
    pub(super) fn admit(
        &self,
        core: &Arc<Core>,
        key: Key,
        waited_for: Option<OwnedSemaphorePermit>,
    ) -> Admission {
        let now = core.clock.monotonic();
        let mut running = self.running();
        if let Some(known) = core.cache.get(&key, now, || core.clock.now()) {
            return Admission::Cached(known);
        }
        if let Some(in_flight) = running.by_key.get(&key)
            && now.saturating_sub(in_flight.started) < core.settings.ttl
            && let Some(shared) = &in_flight.shared
        {
            return Admission::Joined(shared.clone());
        }
        let permit = match waited_for {
            Some(permit) => permit,
            None => match self.permits().try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => return Admission::AtCapacity,
            },
        };
        let call_permit = match core.breaker.admit(now) {
            Ok(call_permit) => call_permit,
            Err(wait) => return Admission::BreakerOpen(wait),
        };
        let (id, sender, shared) = running.start(key, now);
        let lookup = Lookup::new(Arc::clone(core), id, sender, call_permit, permit);
        Admission::Started(Box::new(lookup), shared)
    }

    /// Ends a flight, which must not be ended again, and lets `store` remember what it found.
    pub(super) fn complete(&self, id: &LookupId, store: impl FnOnce()) -> Outcome {
        let mut running = self.running();
        let outcome = running.remove(id);
        if outcome == Outcome::Latest {
            store();
        }
        outcome
    }

    /// Has the flights of this token, or all, overtaken, while `forget` empties the memory.
    pub(super) fn invalidate(&self, key: Option<&Key>, clear_cache: impl FnOnce()) {
        let mut running = self.running();
        match key {
            Some(key) => running
                .by_key
                .get_mut(key)
                .into_iter()
                .for_each(InFlight::invalidate),
            None => running.by_key.values_mut().for_each(InFlight::invalidate),
        }
        clear_cache();
    }

    /// Nothing that is done under the lock leaves it half-done by a panic.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlight {
    fn invalidate(&mut self) {
        self.invalidations += 1;
        self.shared = None;
    }
}

impl Running {
    fn start(
        &mut self,
        key: Key,
        now: Duration,
    ) -> (LookupId, oneshot::Sender<LookupResponse>, SharedResult) {
        let (sender, receiver) = oneshot::channel();
        let shared = receiver.shared();
        self.last_number += 1;
        let in_flight = self.by_key.entry(key).or_insert(InFlight {
            lookups: 0,
            latest: 0,
            started: now,
            invalidations: 0,
            shared: None,
        });
        in_flight.lookups += 1;
        in_flight.latest = self.last_number;
        in_flight.started = now;
        in_flight.shared = Some(shared.clone());
        let id = LookupId {
            key,
            number: self.last_number,
            invalidations: in_flight.invalidations,
            started: now,
        };
        (id, sender, shared)
    }

    fn remove(&mut self, id: &LookupId) -> Outcome {
        let in_flight = self.by_key.get_mut(&id.key);
        let in_flight = in_flight.expect("a running lookup is in the map");
        let outcome = if in_flight.invalidations != id.invalidations {
            Outcome::Invalidated
        } else if in_flight.latest == id.number {
            Outcome::Latest
        } else {
            Outcome::Older
        };
        in_flight.lookups -= 1;
        if in_flight.lookups == 0 {
            self.by_key.remove(&id.key);
        } else if in_flight.latest == id.number {
            // It has nothing more to tell.
            in_flight.shared = None;
        }
        outcome
    }
}
