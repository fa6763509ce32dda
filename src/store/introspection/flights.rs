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

/// The flights for one token: one, and those that take longer than an answer may be old.
struct Runway {
    in_flight: usize,
    newest: u64,
    started: Duration,
    /// How often the token was asked to be forgotten since the first of these flights.
    forgotten: u64,
    /// Nobody joins a flight whose token was asked to be forgotten.
    pending: Option<Pending>,
}

/// What a flight knows of itself.
pub(super) struct Ticket {
    pub(super) key: Key,
    number: u64,
    forgotten: u64,
    pub(super) started: Duration,
}

/// What may be done with what a flight found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// Remembered and told.
    Newest,
    /// Told to those who wait for it. A newer flight knows better.
    Older,
    /// Nothing: it was asked to be forgotten meanwhile.
    Overtaken,
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
            && let Some(pending) = &runway.pending
        {
            return Gate::Joined(pending.clone());
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

    /// Ends a flight, which must not be ended again, and lets `keep` remember what it found.
    pub(super) fn land(&self, ticket: &Ticket, keep: impl FnOnce()) -> Landing {
        let mut running = self.running();
        let landing = running.leave(ticket);
        if landing == Landing::Newest {
            keep();
        }
        landing
    }

    /// Has the flights of this token, or all, overtaken, while `forget` empties the memory.
    pub(super) fn overtake(&self, key: Option<&Key>, forget: impl FnOnce()) {
        let mut running = self.running();
        match key {
            Some(key) => running
                .by_key
                .get_mut(key)
                .into_iter()
                .for_each(Runway::forget),
            None => running.by_key.values_mut().for_each(Runway::forget),
        }
        forget();
    }

    /// Nothing that is done under the lock leaves it half-done by a panic.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runway {
    fn forget(&mut self) {
        self.forgotten += 1;
        self.pending = None;
    }
}

impl Running {
    fn start(&mut self, key: Key, now: Duration) -> (Ticket, oneshot::Sender<Told>, Pending) {
        let (sender, receiver) = oneshot::channel();
        let pending = receiver.shared();
        self.flights += 1;
        let runway = self.by_key.entry(key).or_insert(Runway {
            in_flight: 0,
            newest: 0,
            started: now,
            forgotten: 0,
            pending: None,
        });
        runway.in_flight += 1;
        runway.newest = self.flights;
        runway.started = now;
        runway.pending = Some(pending.clone());
        let ticket = Ticket {
            key,
            number: self.flights,
            forgotten: runway.forgotten,
            started: now,
        };
        (ticket, sender, pending)
    }

    fn leave(&mut self, ticket: &Ticket) -> Landing {
        let runway = self.by_key.get_mut(&ticket.key);
        let runway = runway.expect("a flight has a runway until it lands");
        let landing = if runway.forgotten != ticket.forgotten {
            Landing::Overtaken
        } else if runway.newest == ticket.number {
            Landing::Newest
        } else {
            Landing::Older
        };
        runway.in_flight -= 1;
        if runway.in_flight == 0 {
            self.by_key.remove(&ticket.key);
        } else if runway.newest == ticket.number {
            // It has nothing more to tell.
            runway.pending = None;
        }
        landing
    }
}
