use std::num::{NonZeroU32, NonZeroUsize};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::BoxFuture;
use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::admission::{AdmissionQueue, Class, Decision, QueueLimits, QueuePosition, Wait};
use crate::clock::Clock;
use crate::digest::TokenDigest;
use crate::limits::client::Client;

/// A queued lookup takes up to 2.3 kB, if its client is the only one in its network.
const QUEUE_LIMITS: QueueLimits = QueueLimits {
    total: 4_000,
    per_client: 2_000,
};

/// The longest time that a lookup is queued.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(2);

/// The `Retry-After` of a request whose lookup is not admitted.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The minimum time between two rounds of grants, which is the resolution of timers. The clock may be
/// coarser, so that a round grants nothing.
const MIN_GRANT_INTERVAL: Duration = Duration::from_millis(1);

/// The longest time that a lookup holds its permit after its request was dropped.
const ABANDONED_TIMEOUT: Duration = Duration::from_secs(5);

/// The time for which an accepted token is remembered after its last lookup.
const REMEMBER_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

/// Admits lookups, immediately or from the queue.
pub(in crate::limits) struct Lookups {
    clock: Arc<dyn Clock>,
    /// When the tokens with these digests were last accepted by a lookup.
    accepted: Cache<[u8; 32], Duration>,
    state: Mutex<State>,
    /// Wakes the driver when a lookup ends.
    released: Notify,
}

struct State {
    admission: AdmissionQueue<oneshot::Sender<LookupPermit>>,
    /// Whether a task admits queued lookups.
    is_driven: bool,
}

enum Admitted {
    Immediately(LookupPermit),
    Queued(QueuedLookup, oneshot::Receiver<LookupPermit>),
}

/// A place in the queue, which is canceled on drop.
struct QueuedLookup {
    lookups: Arc<Lookups>,
    position: QueuePosition,
    _counted: Counted,
}

/// Task that admits queued lookups until the queue is empty.
struct Driver {
    lookups: Arc<Lookups>,
    is_done: bool,
}

impl Lookups {
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        per_second: NonZeroU32,
        max_running: NonZeroUsize,
        remembered: usize,
    ) -> Self {
        Self {
            clock,
            accepted: Cache::new(remembered),
            state: Mutex::new(State {
                admission: AdmissionQueue::new(per_second, max_running, QUEUE_LIMITS),
                is_driven: false,
            }),
            released: Notify::new(),
        }
    }

    /// Waits until this lookup may run. Returns its permit, `None` if the token is remembered, or
    /// when to retry if the queue is full.
    pub(super) async fn admit(
        self: &Arc<Self>,
        digest: &TokenDigest,
        client: Client,
        class: Class,
    ) -> Result<Option<LookupPermit>, Duration> {
        if self.remembers(digest) {
            count_admission("remembered");
            return Ok(None);
        }
        let (waiting, turn) = match self.admit_or_enqueue(client, class)? {
            Admitted::Immediately(permit) => {
                count_admission("immediate");
                return Ok(Some(permit));
            }
            Admitted::Queued(waiting, turn) => (waiting, turn),
        };
        let granted = timeout(QUEUE_TIMEOUT, turn).await;
        drop(waiting);
        match granted {
            Ok(Ok(permit)) => {
                count_admission("queued");
                Ok(Some(permit))
            }
            _ => Err(reject()),
        }
    }

    /// Remembers a token that a lookup accepted.
    pub(in crate::limits) fn remember(&self, digest: &TokenDigest) {
        self.accepted
            .insert(*digest.as_bytes(), self.clock.monotonic());
    }

    /// Forgets a token that a lookup did not accept.
    pub(in crate::limits) fn forget(&self, digest: &TokenDigest) {
        self.accepted.remove(digest.as_bytes());
    }

    fn remembers(&self, digest: &TokenDigest) -> bool {
        let accepted_at = self.accepted.get(digest.as_bytes());
        accepted_at.is_some_and(|at| self.clock.monotonic().saturating_sub(at) < REMEMBER_DURATION)
    }

    fn admit_or_enqueue(
        self: &Arc<Self>,
        client: Client,
        class: Class,
    ) -> Result<Admitted, Duration> {
        let now = self.clock.monotonic();
        let mut turn = None;
        let mut state = self.state();
        let arrival = state.admission.admit_or_enqueue(client, class, now, || {
            let (sender, receiver) = oneshot::channel();
            turn = Some(receiver);
            sender
        });
        let position = match arrival {
            Decision::Admitted => {
                drop(state);
                return Ok(Admitted::Immediately(LookupPermit::new(Arc::clone(self))));
            }
            Decision::Full => return Err(reject()),
            // Dropping the sender of an evicted lookup wakes it.
            Decision::Queued { position, .. } => position,
        };
        let starts_driver = !state.is_driven;
        state.is_driven = true;
        drop(state);
        let waiting = QueuedLookup {
            lookups: Arc::clone(self),
            position,
            _counted: Counted::new("service_token_lookups_queued"),
        };
        if starts_driver {
            self.start_driver()?;
        }
        let turn = turn.expect("a lookup that waits has a waker");
        Ok(Admitted::Queued(waiting, turn))
    }

    /// Starts the task that admits queued lookups. Fails without a Tokio runtime.
    fn start_driver(self: &Arc<Self>) -> Result<(), Duration> {
        let driver = Driver {
            lookups: Arc::clone(self),
            is_done: false,
        };
        let runtime = Handle::try_current().map_err(|_| reject())?;
        runtime.spawn(driver.run());
        Ok(())
    }

    /// Admits all lookups that may run. Returns until when the next one waits, or `None` if the queue
    /// is empty.
    fn grant_turns(self: &Arc<Self>) -> Option<Wait> {
        let mut turns = Vec::new();
        let mut state = self.state();
        let wait = loop {
            match state.admission.grant(self.clock.monotonic()) {
                Ok(Some(turn)) => turns.push(turn),
                Ok(None) => break None,
                Err(wait) => break Some(wait),
            }
        };
        state.is_driven = wait.is_some();
        drop(state);
        for turn in turns {
            // If the lookup was canceled meanwhile, this drops its permit, which takes the lock.
            drop(turn.send(LookupPermit::new(Arc::clone(self))));
        }
        wait
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state inconsistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver {
    async fn run(mut self) {
        while let Some(wait) = self.lookups.grant_turns() {
            match wait {
                Wait::For(pause) => sleep(pause.max(MIN_GRANT_INTERVAL)).await,
                Wait::UntilRelease => self.lookups.released.notified().await,
            }
        }
        self.is_done = true;
    }
}

impl Drop for Driver {
    /// If the runtime was shut down, the next lookup that is queued starts another task.
    fn drop(&mut self) {
        if !self.is_done {
            self.lookups.state().is_driven = false;
        }
    }
}

impl Drop for QueuedLookup {
    fn drop(&mut self) {
        self.lookups.state().admission.cancel(self.position);
    }
}

/// Permission to run one lookup, released on drop.
pub(crate) struct LookupPermit {
    lookups: Arc<Lookups>,
    _counted: Counted,
}

impl LookupPermit {
    fn new(lookups: Arc<Lookups>) -> Self {
        Self {
            lookups,
            _counted: Counted::new("service_token_lookups_running"),
        }
    }

    /// Runs a lookup, and holds the permit until it ends.
    ///
    /// If the returned future is dropped, the lookup continues in a task for at most 5 s. Otherwise a
    /// client that resets its requests could load the store with more concurrent lookups than a
    /// client that waits.
    pub(crate) fn run<T: Send + 'static>(self, lookup: BoxFuture<'static, T>) -> RunningLookup<T> {
        RunningLookup {
            running: Some((lookup, self)),
        }
    }
}

impl Drop for LookupPermit {
    fn drop(&mut self) {
        let mut state = self.lookups.state();
        state.admission.release();
        if state.is_driven {
            self.lookups.released.notify_one();
        }
    }
}

/// Future of [`LookupPermit::run`].
pub(crate) struct RunningLookup<T: Send + 'static> {
    running: Option<(BoxFuture<'static, T>, LookupPermit)>,
}

impl<T: Send + 'static> Future for RunningLookup<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Taken, so that a lookup that panicked is not polled again.
        let (mut lookup, permit) = self.running.take().expect("polled after completion");
        let found = lookup.as_mut().poll(cx);
        if found.is_pending() {
            self.running = Some((lookup, permit));
        }
        found
    }
}

impl<T: Send + 'static> Drop for RunningLookup<T> {
    fn drop(&mut self) {
        let Some((lookup, permit)) = self.running.take() else {
            return;
        };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _ = timeout(ABANDONED_TIMEOUT, lookup).await;
                drop(permit);
            });
        }
    }
}

fn reject() -> Duration {
    count_admission("rejected");
    RETRY_AFTER
}

/// Counts the outcome of a lookup's admission.
fn count_admission(outcome: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!("service_token_lookup_admissions_total", "outcome" => outcome).increment(1);
    let _ = outcome;
}

/// Increments a gauge, and decrements it when dropped.
struct Counted(&'static str);

impl Counted {
    fn new(gauge: &'static str) -> Self {
        #[cfg(feature = "metrics")]
        metrics::gauge!(gauge).increment(1.0);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        #[cfg(feature = "metrics")]
        metrics::gauge!(self.0).decrement(1.0);
        let _ = self.0;
    }
}
