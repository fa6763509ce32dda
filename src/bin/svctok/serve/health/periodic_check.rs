use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::status::Condition;

/// A periodic store check whose result all health requests share.
///
/// 1. Checks do not overlap, and the next one starts at least `fresh` after the last one ended.
/// 2. A request that finds an older result waits for the next check.
/// 3. Without requests it runs every `interval`.
#[derive(Clone)]
pub(super) struct PeriodicCheck {
    wanted: Arc<Notify>,
    outcome: watch::Receiver<Outcome>,
    timing: Timing,
}

#[derive(Clone, Copy)]
pub(super) struct Timing {
    /// How long a result is reused.
    pub(super) fresh: Duration,
    pub(super) interval: Duration,
    /// After which an unfinished check fails.
    pub(super) deadline: Duration,
}

/// Why a check failed.
pub(super) enum CheckError<E> {
    Failed(E),
    TimedOut,
}

/// The result of a check, and the conditions before and after it.
pub(super) struct Transition<E> {
    pub(super) before: Condition,
    pub(super) now: Condition,
    pub(super) result: Result<(), CheckError<E>>,
}

#[derive(Clone, Copy)]
struct Outcome {
    condition: Condition,
    /// When the check ended.
    at: Option<Instant>,
}

impl PeriodicCheck {
    /// Returns the check and the future that runs it until it is dropped.
    pub(super) fn new<E>(
        timing: Timing,
        check: impl AsyncFn() -> Result<(), E>,
        mut observe: impl FnMut(Transition<E>),
    ) -> (Self, impl Future<Output = ()>) {
        let (outcomes, outcome) = watch::channel(Outcome {
            condition: Condition::Unknown,
            at: None,
        });
        let wanted = Arc::new(Notify::new());
        let request = Arc::clone(&wanted);
        let run = async move {
            loop {
                let result = match timeout(timing.deadline, check()).await {
                    Ok(checked) => checked.map_err(CheckError::Failed),
                    Err(_) => Err(CheckError::TimedOut),
                };
                let condition = Condition::from_success(result.is_ok());
                let before = outcomes.borrow().condition;
                observe(Transition {
                    before,
                    now: condition,
                    result,
                });
                let ended = Instant::now();
                let at = Some(ended);
                outcomes.send_replace(Outcome { condition, at });
                // A timeout means that the next check is due.
                let _ = timeout(timing.interval, request.notified()).await;
                sleep_until(ended + timing.fresh).await;
            }
        };
        let check = Self {
            wanted,
            outcome,
            timing,
        };
        (check, run)
    }

    /// Returns the last result, however old.
    pub(super) fn last(&self) -> Condition {
        self.outcome.borrow().condition
    }

    /// Returns a result that was fresh at the time of the call.
    pub(super) async fn fresh(&self) -> Condition {
        let mut outcomes = self.outcome.clone();
        let last = *outcomes.borrow_and_update();
        if last.at.is_some_and(|at| at.elapsed() < self.timing.fresh) {
            return last.condition;
        }
        self.wanted.notify_one();
        let limit = self.timing.deadline + self.timing.fresh;
        match timeout(limit, outcomes.changed()).await {
            Ok(Ok(())) => outcomes.borrow().condition,
            _ => Condition::Failing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::time::sleep;

    use super::*;

    const TIMING: Timing = Timing {
        fresh: Duration::from_millis(500),
        interval: Duration::from_secs(5),
        deadline: Duration::from_secs(2),
    };

    /// Returns a check that takes `takes`, and the number of its runs.
    fn counted(takes: Duration) -> (PeriodicCheck, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let check = async move || {
            counter.fetch_add(1, Ordering::SeqCst);
            sleep(takes).await;
            Ok::<(), ()>(())
        };
        let (check, run) = PeriodicCheck::new(TIMING, check, |_| {});
        tokio::spawn(run);
        (check, count)
    }

    #[tokio::test(start_paused = true)]
    async fn many_requests_share_few_checks() {
        let (check, count) = counted(Duration::from_millis(10));
        for _ in 0..10 {
            let flood = join_all((0..1000).map(|_| check.fresh())).await;
            assert!(flood.iter().all(|it| *it == Condition::Ok));
            sleep(Duration::from_millis(100)).await;
        }
        let count = count.load(Ordering::SeqCst);
        assert!((2..=3).contains(&count), "{count} checks in a second");
    }

    #[tokio::test(start_paused = true)]
    async fn checks_run_without_requests() {
        let (check, count) = counted(Duration::ZERO);
        sleep(Duration::from_secs(21)).await;
        assert_eq!(count.load(Ordering::SeqCst), 5);
        assert_eq!(check.last(), Condition::Ok);
    }

    #[tokio::test(start_paused = true)]
    async fn check_fails_at_its_deadline() {
        let (check, _) = counted(Duration::MAX);
        assert_eq!(check.last(), Condition::Unknown);
        let begun = Instant::now();
        assert_eq!(check.fresh().await, Condition::Failing);
        assert_eq!(begun.elapsed(), TIMING.deadline);
    }
}
