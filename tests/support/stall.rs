//! Measures stalls, during which the machine does not run threads that are ready. Tests subtract
//! stalls from a duration, so that its limit holds on a busy machine.

use std::sync::{Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(5);

/// Shorter delays are usual on a machine with more threads than cores, and do not count.
const TOLERATED_DELAY: Duration = Duration::from_millis(20);

const MAX_ROUNDS: usize = 20;

/// Measures time from its start.
#[derive(Clone, Copy)]
pub struct Stopwatch {
    start: Instant,
    stalled_before: Duration,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self {
            stalled_before: stalled(),
            start: Instant::now(),
        }
    }

    /// Returns the time since the start without the stalls.
    pub fn elapsed_without_stalls(&self) -> Duration {
        let elapsed = self.start.elapsed();
        elapsed.saturating_sub(self.stalled())
    }

    /// Returns the total duration of stalls since the start.
    pub fn stalled(&self) -> Duration {
        stalled().saturating_sub(self.stalled_before)
    }
}

/// Repeats `round` until the machine stalls for at most `tolerated` during a round, or
/// [`MAX_ROUNDS`] are reached. Returns the outcome of the last round.
pub async fn retry_while_stalled<T>(tolerated: Duration, mut round: impl AsyncFnMut() -> T) -> T {
    for _ in 1..MAX_ROUNDS {
        let watch = Stopwatch::start();
        let outcome = round().await;
        if watch.stalled() <= tolerated {
            return outcome;
        }
    }
    round().await
}

/// The stalls that this process has measured.
struct Meter {
    total: Duration,
    /// The time at which the measuring thread should run next.
    due: Option<Instant>,
}

impl Meter {
    /// Returns the duration of the current stall at `now`.
    fn current(&self, now: Instant) -> Duration {
        let late = self.due.map(|due| now.saturating_duration_since(due));
        late.filter(|late| *late > TOLERATED_DELAY)
            .unwrap_or_default()
    }
}

fn stalled() -> Duration {
    static METER: Mutex<Meter> = Mutex::new(Meter {
        total: Duration::ZERO,
        due: None,
    });
    static THREAD: Once = Once::new();

    let lock = || METER.lock().expect("nothing panics with the lock");
    THREAD.call_once(|| {
        thread::spawn(move || {
            loop {
                lock().due = Some(Instant::now() + TICK);
                thread::sleep(TICK);
                let mut meter = lock();
                let stall = meter.current(Instant::now());
                meter.total += stall;
                meter.due = None;
            }
        });
    });
    let meter = lock();
    meter.total + meter.current(Instant::now())
}
