use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{FutureExt, Shared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::core::Core;
use super::error::IntrospectionError;
use super::flight::Flight;
use super::memory::{Kept, Remembered};
use crate::store::key::Key;

/// What a call found, for all who wait for it.
#[derive(Clone)]
pub(super) enum Told {
    Active(Arc<Kept>),
    /// There is no such token, as far as the server tells.
    Inactive,
    Failed(IntrospectionError, Second),
    /// What it found was asked to be forgotten meanwhile; who waits must look again.
    Overtaken,
}

/// An answer that several requests wait for.
pub(super) type Pending = Shared<oneshot::Receiver<Told>>;

/// The one call that all who waited for a failed one share.
pub(super) type Second = Arc<tokio::sync::Mutex<Option<Pending>>>;

/// The calls that are running.
///
/// The lock is the one under which a flight begins, finds out whether it was overtaken, and fills
/// the memory; and under which the memory is emptied. Hits do not take it.
pub(super) struct Flights {
    running: Mutex<Running>,
    permits: Arc<Semaphore>,
    max: usize,
}

#[derive(Default)]
struct Running {
    by_key: HashMap<Key, Runway, RandomState>,
    flights: u64,
}

/// The newest flight for one token.
struct Runway {
    number: u64,
    started: Duration,
    pending: Pending,
}

/// What a flight knows of itself.
pub(super) struct Ticket {
    pub(super) key: Key,
    number: u64,
    pub(super) started: Duration,
}

/// Where a request gets its answer from.
pub(super) enum Gate {
    Known(Remembered),
    Joined(Pending),
    /// The flight is to be spawned by the caller; dropped, it fails all who joined it.
    Started(Box<Flight>, Pending),
    /// There is no permit for a call.
    Full,
    /// The server is not asked for this long.
    Closed(Duration),
}

impl Flights {
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
    pub(super) fn enter(
        &self,
        core: &Arc<Core>,
        key: Key,
        waited_for: Option<OwnedSemaphorePermit>,
    ) -> Gate {
        let now = core.clock.monotonic();
        let mut running = self.running();
        if let Some(known) = core.memory.get(&key, now, || core.clock.now()) {
            return Gate::Known(known);
        }
        if let Some(runway) = running.by_key.get(&key)
            && now.saturating_sub(runway.started) < core.settings.ttl
        {
            return Gate::Joined(runway.pending.clone());
        }
        let permit = match waited_for {
            Some(permit) => permit,
            None => match self.permits().try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => return Gate::Full,
            },
        };
        let pass = match core.breaker.admit(now) {
            Ok(pass) => pass,
            Err(wait) => return Gate::Closed(wait),
        };
        let (ticket, sender, pending) = running.start(key, now);
        let flight = Flight::new(Arc::clone(core), ticket, sender, pass, permit);
        Gate::Started(Box::new(flight), pending)
    }

    /// Ends a flight, and lets `keep` remember what it found, unless it was overtaken: then false.
    pub(super) fn settle(&self, ticket: &Ticket, keep: impl FnOnce()) -> bool {
        let mut running = self.running();
        let is_newest = running.leave(ticket);
        if is_newest {
            keep();
        }
        is_newest
    }

    /// Has the flights of this token, or all, overtaken, while `forget` empties the memory.
    pub(super) fn overtake(&self, key: Option<&Key>, forget: impl FnOnce()) {
        let mut running = self.running();
        match key {
            Some(key) => drop(running.by_key.remove(key)),
            None => running.by_key.clear(),
        }
        forget();
    }

    /// Nothing that is done under the lock leaves it half-done by a panic.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn start(&mut self, key: Key, now: Duration) -> (Ticket, oneshot::Sender<Told>, Pending) {
        let (sender, receiver) = oneshot::channel();
        let pending = receiver.shared();
        self.flights += 1;
        let runway = Runway {
            number: self.flights,
            started: now,
            pending: pending.clone(),
        };
        self.by_key.insert(key, runway);
        let ticket = Ticket {
            key,
            number: self.flights,
            started: now,
        };
        (ticket, sender, pending)
    }

    /// Whether the flight was the newest of its token.
    fn leave(&mut self, ticket: &Ticket) -> bool {
        let runway = self.by_key.get(&ticket.key);
        let is_newest = runway.is_some_and(|runway| runway.number == ticket.number);
        if is_newest {
            self.by_key.remove(&ticket.key);
        }
        is_newest
    }
}
