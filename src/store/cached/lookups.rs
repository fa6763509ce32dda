use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::hash::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{FutureExt, Shared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::entries::{Entry, EntryKind, EntryMaps};
use super::lookup::Lookup;
use super::metrics;
use super::settings::Settings;
use crate::store::key::Key;
use crate::store::{ChangeListener, StoreError, TokenChange, TokenRecord};

/// What a store says of a credential.
pub(super) type LookupResult = Result<Option<TokenRecord>, StoreError>;

/// An answer that several requests wait for.
pub(super) type SharedResult = Shared<oneshot::Receiver<LookupResult>>;

/// What is known, and what is being looked up.
///
/// The lock of `running` is the one under which a flight finds out whether its credential was
/// changed since it began to look, fills `entries`, and leaves; and under which a change empties
/// `entries` and is noted for every flight. So there is no moment at which a change is seen by
/// neither. Hits do not take it.
pub(super) struct Lookups {
    pub(super) settings: Settings,
    pub(super) entries: EntryMaps,
    running: Mutex<Running>,
    permits: Arc<Semaphore>,
}

#[derive(Default)]
struct Running {
    by_key: HashMap<Key, InFlight, RandomState>,
    last_sequence: u64,
}

/// The flights for one credential: one, and those that take longer than an answer may be old.
struct InFlight {
    /// How many changes the credential saw since the first of these flights.
    invalidations: u64,
    lookups: usize,
    latest: u64,
    started: Duration,
    shared_result: SharedResult,
}

/// What a flight knows of itself.
pub(super) struct LookupId {
    key: Key,
    sequence: u64,
    /// How many changes were known when it began to look.
    invalidations: u64,
    /// When it began to look.
    pub(super) started: Duration,
}

/// Where a request gets its answer from.
pub(super) enum Admission {
    Cached(EntryKind, Option<TokenRecord>),
    Joined(SharedResult),
    /// The flight is to be spawned by the caller; dropped, it fails all who joined it.
    Started(Lookup, SharedResult),
    /// There is no permit for a flight.
    AtCapacity,
}

impl Lookups {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            entries: EntryMaps::new(settings.capacity, settings.negative_capacity),
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
        running
            .by_key
            .values()
            .map(|in_flight_lookups| in_flight_lookups.lookups)
            .sum()
    }

    /// Joins the flight for this credential or begins one, with the permit if one was waited for.
    ///
    /// A flight that began as long ago as the time to live is not joined: its answer would be
    /// older than what the cache itself may still tell.
    pub(super) fn join_or_start(
        self: &Arc<Self>,
        key: Key,
        waited_for: Option<OwnedSemaphorePermit>,
    ) -> Admission {
        let now = self.now();
        let mut running = self.running();
        if let Some((kind, answer)) = self.entries.get(&key, now) {
            return Admission::Cached(kind, answer);
        }
        if let Some(in_flight_lookups) = running.by_key.get(&key)
            && now.saturating_sub(in_flight_lookups.started) < self.settings.ttl
        {
            return Admission::Joined(in_flight_lookups.shared_result.clone());
        }
        let permit = match waited_for {
            Some(permit) => permit,
            None => match self.permits().try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => return Admission::AtCapacity,
            },
        };
        let (sender, receiver) = oneshot::channel();
        let shared_result = receiver.shared();
        let id = running.start(key, now, shared_result.clone());
        let lookup = Lookup::new(Arc::clone(self), id, sender, permit);
        Admission::Started(lookup, shared_result)
    }

    /// Ends the flight and remembers what it found, unless its credential was changed since it
    /// began to look; then false, and the ticket is good for another look.
    pub(super) fn try_complete(
        &self,
        id: &mut LookupId,
        found: Option<(EntryKind, Entry)>,
    ) -> bool {
        let now = self.now();
        let mut running = self.running();
        let in_flight_lookups = running.by_key.get_mut(&id.key);
        let in_flight_lookups =
            in_flight_lookups.expect("a lookup has a in_flight_lookups until it leaves");
        let is_latest = in_flight_lookups.latest == id.sequence;
        if in_flight_lookups.invalidations != id.invalidations {
            (id.invalidations, id.started) = (in_flight_lookups.invalidations, now);
            if is_latest {
                in_flight_lookups.started = now;
            }
            return false;
        }
        // An older flight must not replace what a newer one found.
        if is_latest && let Some((kind, entry)) = found {
            self.entries.insert(id.key, kind, entry);
        }
        running.deregister(id.key);
        true
    }

    /// A flight ends without an answer that may be kept.
    pub(super) fn deregister(&self, id: &LookupId) {
        self.running().deregister(id.key);
    }

    /// Forgets what is known of these credentials, and has the flights for them look again.
    pub(super) fn invalidate(&self, keys: impl IntoIterator<Item = Key>) {
        let mut running = self.running();
        for key in keys {
            self.entries.invalidate(&key);
            if let Some(in_flight_lookups) = running.by_key.get_mut(&key) {
                in_flight_lookups.invalidations += 1;
            }
        }
    }

    /// As [`invalidate`](Self::invalidate), of all.
    pub(super) fn clear(&self) {
        let mut running = self.running();
        self.entries.clear();
        for in_flight_lookups in running.by_key.values_mut() {
            in_flight_lookups.invalidations += 1;
        }
    }

    /// Nothing that is done under the lock leaves it half-done by a panic.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn start(&mut self, key: Key, started: Duration, shared_result: SharedResult) -> LookupId {
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        let in_flight_lookups = self.by_key.entry(key).or_insert_with(|| InFlight {
            invalidations: 0,
            lookups: 0,
            latest: sequence,
            started,
            shared_result: shared_result.clone(),
        });
        in_flight_lookups.lookups += 1;
        (
            in_flight_lookups.latest,
            in_flight_lookups.started,
            in_flight_lookups.shared_result,
        ) = (sequence, started, shared_result);
        LookupId {
            key,
            sequence,
            invalidations: in_flight_lookups.invalidations,
            started,
        }
    }

    fn deregister(&mut self, key: Key) {
        if let MapEntry::Occupied(mut place) = self.by_key.entry(key) {
            place.get_mut().lookups -= 1;
            if place.get().lookups == 0 {
                place.remove();
            }
        }
    }
}

impl ChangeListener for Lookups {
    fn changed(&self, change: &TokenChange) {
        match change {
            TokenChange::Token { digests, .. } => {
                metrics::token_changed();
                self.invalidate(digests.iter().map(Key::from));
            }
            TokenChange::Everything => {
                metrics::everything_changed();
                self.clear();
            }
        }
    }
}
