use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::metrics;
use crate::clock::random_between;

const MIN_OPEN: Duration = Duration::from_secs(1);
#[cfg(test)]
const MAX_OPEN: Duration = Duration::from_secs(5);

/// Whether the authorization server is asked at all just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// It is asked.
    Closed,
    /// It failed too often; nobody asks it for a while.
    Open,
    /// One call is finding out whether it is back.
    HalfOpen,
}

/// Stops asking a server that does not answer.
///
/// 1. It opens after so many failures in a row that no token can cause.
/// 2. Open, it lets nobody pass for 1 to 1.5 s at random, then for 2 to 3 s, then for 3.5 to 5 s.
/// 3. Then one call is let through. If the server answers it, whatever it says, all may pass.
pub(super) struct Breaker {
    threshold: u32,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// How often it opened since it was last closed.
    openings: u32,
    /// Which phase this is: what began in an earlier one says nothing about this one.
    generation: u64,
}

#[derive(Clone, Copy)]
enum Phase {
    Closed { failures: u32 },
    Open { until: Duration },
    Probing,
}

/// The leave to ask once. Dropped without a word, it counts as a failure of the probe.
pub(super) struct CallPermit {
    breaker: Arc<Breaker>,
    generation: u64,
    now: Duration,
    is_recorded: bool,
}

/// What a call says about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It did what it should.
    Good,
    /// It answered, but a caller may have caused that answer.
    Unclear,
    /// It failed in a way that no token can cause.
    Bad,
}

impl Breaker {
    pub(super) fn new(threshold: u32) -> Arc<Self> {
        let phase = Phase::Closed { failures: 0 };
        let state = State {
            phase,
            openings: 0,
            generation: 0,
        };
        Arc::new(Self {
            threshold: threshold.max(1),
            state: Mutex::new(state),
        })
    }

    /// The leave to ask now, or how long to wait for it.
    pub(super) fn admit(self: &Arc<Self>, now: Duration) -> Result<CallPermit, Duration> {
        let mut state = self.state();
        match state.phase {
            Phase::Closed { .. } => {}
            Phase::Open { until } if now < until => return Err(until.saturating_sub(now)),
            Phase::Open { .. } => state.enter(Phase::Probing),
            Phase::Probing => return Err(MIN_OPEN),
        }
        Ok(CallPermit {
            breaker: Arc::clone(self),
            generation: state.generation,
            now,
            is_recorded: false,
        })
    }

    /// Whether a call would be let through.
    pub(super) fn state_at(&self, now: Duration) -> BreakerState {
        match self.state().phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { until } if now < until => BreakerState::Open,
            Phase::Open { .. } | Phase::Probing => BreakerState::HalfOpen,
        }
    }

    /// Nothing that is done under the lock leaves it half-done by a panic.
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
                metrics::breaker_closed();
            }
            (Phase::Closed { .. } | Phase::Probing, Health::Bad) => {
                let until = now.saturating_add(open_duration(state.openings));
                state.openings = state.openings.saturating_add(1);
                state.enter(Phase::Open { until });
                metrics::breaker_opened();
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
    /// Says how the call went, at this time.
    pub(super) fn record(mut self, health: Health, now: Duration) {
        self.is_recorded = true;
        self.breaker.record(self.generation, health, now);
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        if !self.is_recorded {
            let is_probe = matches!(self.breaker.state().phase, Phase::Probing);
            let health = if is_probe {
                Health::Bad
            } else {
                Health::Unclear
            };
            self.breaker.record(self.generation, health, self.now);
        }
    }
}

/// How long to stay open, when it opened this often before.
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
            panic!("nobody may pass at {now:?}");
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
                let pause = open_duration(openings);
                assert!((MIN_OPEN..=MAX_OPEN).contains(&pause));
                assert!(openings < 2 || pause >= MIN_OPEN * 3, "{pause:?}");
            }
        }
    }
}
