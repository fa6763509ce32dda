use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;
use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::admission::{Admission, Arrival, Class, Place, QueueLimits};
use super::metrics;
use crate::clock::Clock;
use crate::digest::TokenDigest;
use crate::limits::client::Client;

/// A place takes up to 2.3 kB, where each client is alone in its network.
const QUEUE_LIMITS: QueueLimits = QueueLimits {
    total: 4_000,
    per_client: 2_000,
};

/// The longest that a lookup waits for its turn.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a client that is refused for a full queue should wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The least time between two rounds of grants: timers are no finer.
const MIN_PAUSE: Duration = Duration::from_millis(1);

/// How long an accepted token is remembered since its last lookup.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Lets lookups run, at once or in their turn.
pub(super) struct Lookups {
    clock: Arc<dyn Clock>,
    /// When the tokens with these digests were last accepted by a lookup.
    accepted: Cache<[u8; 32], Duration>,
    state: Mutex<State>,
}

struct State {
    admission: Admission<oneshot::Sender<()>>,
    /// Whether a task grants turns.
    is_driven: bool,
}

/// A place in the queue, which is given up when dropped.
struct Waiting {
    lookups: Arc<Lookups>,
    place: Place,
}

/// A task that grants turns until nobody waits.
struct Driver {
    lookups: Arc<Lookups>,
    is_done: bool,
}

impl Lookups {
    pub(super) fn new(clock: Arc<dyn Clock>, per_second: NonZeroU32, remembered: usize) -> Self {
        Self {
            clock,
            accepted: Cache::new(remembered),
            state: Mutex::new(State {
                admission: Admission::new(per_second, QUEUE_LIMITS),
                is_driven: false,
            }),
        }
    }

    /// Waits until this lookup may run. Returns when to try again if the queue is full.
    pub(super) async fn admit(
        self: &Arc<Self>,
        digest: &TokenDigest,
        client: Client,
        class: Class,
    ) -> Result<(), Duration> {
        if self.remembers(digest) {
            metrics::admitted("remembered");
            return Ok(());
        }
        let Some((waiting, turn)) = self.arrive(client, class)? else {
            metrics::admitted("at_once");
            return Ok(());
        };
        let granted = timeout(QUEUE_TIMEOUT, turn).await;
        drop(waiting);
        match granted {
            Ok(Ok(())) => {
                metrics::admitted("waited");
                Ok(())
            }
            _ => Err(refuse()),
        }
    }

    /// Remembers that a lookup accepted this token.
    pub(super) fn remember(&self, digest: &TokenDigest) {
        self.accepted
            .insert(*digest.as_bytes(), self.clock.monotonic());
    }

    /// Forgets a token that a lookup did not accept.
    pub(super) fn forget(&self, digest: &TokenDigest) {
        self.accepted.remove(digest.as_bytes());
    }

    fn remembers(&self, digest: &TokenDigest) -> bool {
        let accepted_at = self.accepted.get(digest.as_bytes());
        accepted_at.is_some_and(|at| self.clock.monotonic().saturating_sub(at) < REMEMBERED_FOR)
    }

    /// Returns nothing if the lookup may run at once.
    fn arrive(
        self: &Arc<Self>,
        client: Client,
        class: Class,
    ) -> Result<Option<(Waiting, oneshot::Receiver<()>)>, Duration> {
        let now = self.clock.monotonic();
        let mut turn = None;
        let mut state = self.state();
        let arrival = state.admission.arrive(client, class, now, || {
            let (sender, receiver) = oneshot::channel();
            turn = Some(receiver);
            sender
        });
        let place = match arrival {
            Arrival::Admitted => return Ok(None),
            Arrival::Full => return Err(refuse()),
            // The sender of one that lost its place is dropped, which wakes it.
            Arrival::Waits { place, .. } => place,
        };
        metrics::waiting(state.admission.waiting());
        let starts_driver = !state.is_driven;
        state.is_driven = true;
        drop(state);
        let lookups = Arc::clone(self);
        let waiting = Waiting { lookups, place };
        if starts_driver {
            self.start_driver()?;
        }
        Ok(turn.map(|turn| (waiting, turn)))
    }

    /// Without a runtime nobody can wait.
    fn start_driver(self: &Arc<Self>) -> Result<(), Duration> {
        let driver = Driver {
            lookups: Arc::clone(self),
            is_done: false,
        };
        let runtime = Handle::try_current().map_err(|_| refuse())?;
        runtime.spawn(driver.run());
        Ok(())
    }

    /// Grants all turns that have come. Returns the time to the next one, `None` if nobody waits.
    fn grant_turns(&self) -> Option<Duration> {
        let mut state = self.state();
        let pause = loop {
            match state.admission.grant(self.clock.monotonic()) {
                // It fails if the lookup was given up just now.
                Ok(Some(turn)) => drop(turn.send(())),
                Ok(None) => break None,
                Err(wait) => break Some(wait.max(MIN_PAUSE)),
            }
        };
        state.is_driven = pause.is_some();
        metrics::waiting(state.admission.waiting());
        pause
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver {
    async fn run(mut self) {
        while let Some(pause) = self.lookups.grant_turns() {
            sleep(pause).await;
        }
        self.is_done = true;
    }
}

impl Drop for Driver {
    /// The runtime was shut down: the next lookup that must wait starts another task.
    fn drop(&mut self) {
        if !self.is_done {
            self.lookups.state().is_driven = false;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.lookups.state();
        state.admission.leave(self.place);
        metrics::waiting(state.admission.waiting());
    }
}

fn refuse() -> Duration {
    metrics::admitted("refused");
    RETRY_AFTER
}
