use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::metrics;
use crate::clock::random_between;

const MIN_OPEN: Duration = Duration::from_secs(1);
#[cfg(test)]
const MAX_OPEN: Duration = Duration::from_secs(5);

/// The state of the circuit breaker of an [`IntrospectionStore`](super::IntrospectionStore).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// Calls are made.
    Closed,
    /// Too many calls failed. No calls are made for a while.
    Open,
    /// One probe call tests whether the server is available again.
    HalfOpen,
}

/// A circuit breaker: stops calls to a server that is unavailable.
///
/// 1. It opens after `threshold` consecutive failures that no token can cause.
/// 2. It stays open for a random time of 1 to 1.43 s, then 2 to 2.86 s, then 3.5 to 5 s.
/// 3. Then it allows one probe call. Any response of the server closes it.
pub(super) struct Breaker {
    threshold: u32,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// How often the breaker opened since it was last closed.
    openings: u32,
    /// The number of the phase. Calls that started in an earlier phase are ignored.
    generation: u64,
}

#[derive(Clone, Copy)]
enum Phase {
    Closed { failures: u32 },
    Open { until: Duration },
    Probing,
}

/// Permission to make one call. If it is dropped without a result, a probe counts as failed.
pub(super) struct CallPermit {
    breaker: Arc<Breaker>,
    generation: u64,
    health: Health,
    now: Duration,
}

/// What the result of a call says about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// The server works.
    Good,
    /// The call failed, but a token may have caused that.
    Unclear,
    /// The call failed in a way that no token can cause.
    Bad,
}

impl Breaker {
    pub(super) fn new(threshold: u32) -> Arc<Self> {
        let state = State {
            phase: Phase::Closed { failures: 0 },
            openings: 0,
            generation: 0,
        };
        Arc::new(Self {
            threshold: threshold.max(1),
            state: Mutex::new(state),
        })
    }

    /// Returns permission to make a call now, or how long to wait.
    pub(super) fn admit(self: &Arc<Self>, now: Duration) -> Result<CallPermit, Duration> {
        let mut state = self.state();
        let health = match state.phase {
            Phase::Closed { .. } => Health::Unclear,
            Phase::Open { until } if now < until => return Err(until.saturating_sub(now)),
            Phase::Open { .. } => {
                state.enter(Phase::Probing);
                Health::Bad
            }
            Phase::Probing => return Err(MIN_OPEN),
        };
        Ok(CallPermit {
            breaker: Arc::clone(self),
            generation: state.generation,
            health,
            now,
        })
    }

    /// Returns the state at `now`.
    pub(super) fn state_at(&self, now: Duration) -> BreakerState {
        match self.state().phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { until } if now < until => BreakerState::Open,
            Phase::Open { .. } | Phase::Probing => BreakerState::HalfOpen,
        }
    }

    /// No panic under the lock leaves a change half made.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, generation: u64, health: Health, now: Duration) {
        let mut state = self.state();
        if state.generation != generation {
            return;
        }
        match (state.phase, health) {
            (Phase::Closed { .. }, Health::Good) => state.phase = Phase::Closed { failures: 0 },
            (Phase::Closed { .. }, Health::Unclear) | (Phase::Open { .. }, _) => {}
            (Phase::Closed { failures }, Health::Bad) if failures + 1 < self.threshold => {
                state.phase = Phase::Closed {
                    failures: failures + 1,
                };
            }
            (Phase::Probing, Health::Good | Health::Unclear) => {
                state.openings = 0;
                state.enter(Phase::Closed { failures: 0 });
                metrics::breaker_changed(false);
            }
            (Phase::Closed { .. } | Phase::Probing, Health::Bad) => {
                let until = now.saturating_add(open_duration(state.openings));
                state.openings = state.openings.saturating_add(1);
                state.enter(Phase::Open { until });
                metrics::breaker_changed(true);
            }
        }
    }
}

impl State {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
    }
}

impl CallPermit {
    /// Records the result of the call.
    pub(super) fn record(mut self, health: Health, now: Duration) {
        (self.health, self.now) = (health, now);
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        self.breaker.record(self.generation, self.health, self.now);
    }
}

/// Returns how long to stay open after this many previous openings.
fn open_duration(openings: u32) -> Duration {
    let base = match openings {
        0 => MIN_OPEN,
        1 => MIN_OPEN * 2,
        _ => MIN_OPEN * 7 / 2,
    };
    random_between(base, base * 10 / 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(100);

    fn call_permit(breaker: &Arc<Breaker>, now: Duration) -> CallPermit {
        let Ok(call_permit) = breaker.admit(now) else {
            panic!("the breaker is open at {now:?}");
        };
        call_permit
    }

    fn fail(breaker: &Arc<Breaker>, times: u32, now: Duration) {
        for _ in 0..times {
            call_permit(breaker, now).record(Health::Bad, now);
        }
    }

    #[test]
    fn opens_after_consecutive_failures() {
        let breaker = Breaker::new(5);
        fail(&breaker, 4, START);
        call_permit(&breaker, START).record(Health::Good, START);
        fail(&breaker, 4, START);
        breaker
            .admit(START)
            .ok()
            .unwrap()
            .record(Health::Unclear, START);
        assert_eq!(breaker.state_at(START), BreakerState::Closed);
        fail(&breaker, 1, START);
        assert_eq!(breaker.state_at(START), BreakerState::Open);
        let wait = breaker.admit(START).err().expect("open");
        assert!((MIN_OPEN..=MAX_OPEN).contains(&wait), "{wait:?}");
    }

    #[test]
    fn half_open_allows_one_probe() {
        for (health, state) in [
            (Health::Good, BreakerState::Closed),
            (Health::Unclear, BreakerState::Closed),
            (Health::Bad, BreakerState::Open),
        ] {
            let breaker = Breaker::new(1);
            fail(&breaker, 1, START);
            let later = START + MAX_OPEN;
            let probe = call_permit(&breaker, later);
            assert_eq!(breaker.state_at(later), BreakerState::HalfOpen);
            assert!(breaker.admit(later).is_err(), "a second probe");
            probe.record(health, later);
            assert_eq!(breaker.state_at(later), state);
        }
    }

    #[test]
    fn dropped_probe_reopens_the_breaker() {
        let breaker = Breaker::new(1);
        fail(&breaker, 1, START);
        let later = START + MAX_OPEN;
        drop(call_permit(&breaker, later));
        assert_eq!(breaker.state_at(later), BreakerState::Open);
        assert!(breaker.admit(later + MAX_OPEN).is_ok());
    }

    #[test]
    fn ignores_calls_started_before_opening() {
        let breaker = Breaker::new(1);
        let early = call_permit(&breaker, START);
        fail(&breaker, 1, START);
        let later = START + MAX_OPEN;
        let probe = call_permit(&breaker, later);
        early.record(Health::Good, later);
        assert_eq!(breaker.state_at(later), BreakerState::HalfOpen);
        probe.record(Health::Bad, later);
        assert_eq!(breaker.state_at(later), BreakerState::Open);
    }

    #[test]
    fn open_duration_grows_to_five_seconds() {
        for openings in 0..40 {
            for _ in 0..50 {
                let open = open_duration(openings);
                assert!((MIN_OPEN..=MAX_OPEN).contains(&open));
                assert!(openings < 2 || open >= MIN_OPEN * 3, "{open:?}");
            }
        }
    }
}
