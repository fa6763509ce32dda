use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::hash::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{FutureExt, Shared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answers::{Answers, Entry, Sort};
use super::flight::Flight;
use super::meter;
use super::settings::Settings;
use crate::store::key::Key;
use crate::store::{ChangeListener, StoreError, TokenChange, TokenRecord};

/// What a store says of a credential.
pub(super) type Answer = Result<Option<TokenRecord>, StoreError>;

/// An answer that several requests wait for.
pub(super) type Pending = Shared<oneshot::Receiver<Answer>>;

/// What is known, and what is being looked up.
///
/// The lock of `running` is the one under which a flight finds out whether its credential was
/// changed since it began to look, fills `answers`, and leaves; and under which a change empties
/// `answers` and is noted for every flight. So there is no moment at which a change is seen by
/// neither. Hits do not take it.
pub(super) struct Lookups {
    pub(super) settings: Settings,
    pub(super) answers: Answers,
    running: Mutex<Running>,
    permits: Arc<Semaphore>,
}

#[derive(Default)]
struct Running {
    by_key: HashMap<Key, Runway, RandomState>,
    flights: u64,
}

/// The flights for one credential: one, and those that take longer than an answer may be old.
struct Runway {
    /// How many changes the credential saw since the first of these flights.
    changes: u64,
    in_flight: usize,
    newest: u64,
    started: Duration,
    pending: Pending,
}

/// What a flight knows of itself.
pub(super) struct Ticket {
    key: Key,
    number: u64,
    /// How many changes were known when it began to look.
    changes: u64,
    /// When it began to look.
    pub(super) started: Duration,
}

/// Where a request gets its answer from.
pub(super) enum Gate {
    Known(Sort, Option<TokenRecord>),
    Joined(Pending),
    /// The flight is to be spawned by the caller; dropped, it fails all who joined it.
    Started(Flight, Pending),
    /// There is no permit for a flight.
    Full,
}

impl Lookups {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            answers: Answers::new(settings.capacity, settings.negative_capacity),
            running: Mutex::default(),
            permits: Arc::new(Semaphore::new(settings.max_in_flight)),
            settings,
        }
    }

    /// The permits that bound the number of flights.
    pub(super) fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.permits)
    }

    pub(super) fn now(&self) -> Duration {
        self.settings.clock.monotonic()
    }

    pub(super) fn in_flight(&self) -> usize {
        let running = self.running();
        running.by_key.values().map(|runway| runway.in_flight).sum()
    }

    /// Joins the flight for this credential or begins one, with the permit if one was waited for.
    ///
    /// A flight that began as long ago as the time to live is not joined: its answer would be
    /// older than what the cache itself may still tell.
    pub(super) fn enter(
        self: &Arc<Self>,
        key: Key,
        waited_for: Option<OwnedSemaphorePermit>,
    ) -> Gate {
        let now = self.now();
        let mut running = self.running();
        if let Some((sort, answer)) = self.answers.get(&key, now) {
            return Gate::Known(sort, answer);
        }
        if let Some(runway) = running.by_key.get(&key)
            && now.saturating_sub(runway.started) < self.settings.ttl
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
        let (sender, receiver) = oneshot::channel();
        let pending = receiver.shared();
        let ticket = running.start(key, now, pending.clone());
        let flight = Flight::new(Arc::clone(self), ticket, sender, permit);
        Gate::Started(flight, pending)
    }

    /// Ends the flight and remembers what it found, unless its credential was changed since it
    /// began to look; then false, and the ticket is good for another look.
    pub(super) fn settle(&self, ticket: &mut Ticket, found: Option<(Sort, Entry)>) -> bool {
        let now = self.now();
        let mut running = self.running();
        let runway = running.by_key.get_mut(&ticket.key);
        let runway = runway.expect("a flight has a runway until it leaves");
        let is_newest = runway.newest == ticket.number;
        if runway.changes != ticket.changes {
            (ticket.changes, ticket.started) = (runway.changes, now);
            if is_newest {
                runway.started = now;
            }
            return false;
        }
        // An older flight must not replace what a newer one found.
        if is_newest && let Some((sort, entry)) = found {
            self.answers.keep(ticket.key, sort, entry);
        }
        running.leave(ticket.key);
        true
    }

    /// A flight ends without an answer that may be kept.
    pub(super) fn leave(&self, ticket: &Ticket) {
        self.running().leave(ticket.key);
    }

    /// Forgets what is known of these credentials, and has the flights for them look again.
    pub(super) fn forget(&self, keys: impl IntoIterator<Item = Key>) {
        let mut running = self.running();
        for key in keys {
            self.answers.forget(&key);
            if let Some(runway) = running.by_key.get_mut(&key) {
                runway.changes += 1;
            }
        }
    }

    /// As [`forget`](Self::forget), of all.
    pub(super) fn clear(&self) {
        let mut running = self.running();
        self.answers.clear();
        for runway in running.by_key.values_mut() {
            runway.changes += 1;
        }
    }

    /// Nothing that is done under the lock leaves it half-done by a panic.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn start(&mut self, key: Key, started: Duration, pending: Pending) -> Ticket {
        self.flights += 1;
        let number = self.flights;
        let runway = self.by_key.entry(key).or_insert_with(|| Runway {
            changes: 0,
            in_flight: 0,
            newest: number,
            started,
            pending: pending.clone(),
        });
        runway.in_flight += 1;
        (runway.newest, runway.started, runway.pending) = (number, started, pending);
        Ticket {
            key,
            number,
            changes: runway.changes,
            started,
        }
    }

    fn leave(&mut self, key: Key) {
        if let Place::Occupied(mut place) = self.by_key.entry(key) {
            place.get_mut().in_flight -= 1;
            if place.get().in_flight == 0 {
                place.remove();
            }
        }
    }
}

impl ChangeListener for Lookups {
    fn changed(&self, change: &TokenChange) {
        match change {
            TokenChange::Token { digests, .. } => {
                meter::token_changed();
                self.forget(digests.iter().map(Key::from));
            }
            TokenChange::Everything => {
                meter::everything_changed();
                self.clear();
            }
        }
    }
}
