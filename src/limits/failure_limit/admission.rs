use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::budgets::Rate;
use super::fair_queue::{FairQueue, path};
use crate::limits::client::Client;

/// Clients over their budget get one lookup in this number, and one place in the queue in this
/// number, while others use the rest.
const OVER_BUDGET_SHARE: u32 = 4;

/// Decides when a lookup may run, within a rate and a number of concurrent lookups.
///
/// `T` wakes a queued lookup. Lookups of clients within their failure budget go first, except for a
/// share. Clients of the same class take turns.
pub(super) struct AdmissionQueue<T> {
    rate: Rate,
    full_at: Duration,
    in_budget: FairQueue<T>,
    over_budget: FairQueue<T>,
    /// The number of lookups within budget since the last one over budget.
    in_budget_streak: u32,
    next_number: u64,
    /// The number of lookups that were admitted and not [released](Self::release) yet.
    running: usize,
    max_running: NonZeroUsize,
    limits: QueueLimits,
}

/// The maximum numbers of queued lookups.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimits {
    pub(super) total: usize,
    pub(super) per_client: usize,
}

/// Until when the next lookup waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// For this time, because of the rate.
    For(Duration),
    /// Until a running lookup ends.
    UntilRelease,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    InBudget,
    OverBudget,
}

/// The place of a lookup in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueuePosition {
    class: Class,
    path: [u64; 3],
    number: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision<T> {
    Admitted,
    Queued {
        position: QueuePosition,
        /// A lookup that was removed from the queue to make room.
        evicted: Option<T>,
    },
    Full,
}

impl<T> AdmissionQueue<T> {
    /// Admits `per_second` lookups per second, with bursts of a tenth of that, while fewer than
    /// `max_running` run.
    pub(super) fn new(
        per_second: NonZeroU32,
        max_running: NonZeroUsize,
        limits: QueueLimits,
    ) -> Self {
        let burst = NonZeroU32::new(per_second.get() / 10).unwrap_or(NonZeroU32::MIN);
        Self {
            rate: Rate::new(burst, Duration::from_secs(1) / per_second.get()),
            full_at: Duration::ZERO,
            in_budget: FairQueue::new(),
            over_budget: FairQueue::new(),
            in_budget_streak: 0,
            next_number: 0,
            running: 0,
            max_running,
            limits,
        }
    }

    /// Returns the number of queued lookups.
    pub(super) fn waiting(&self) -> usize {
        self.in_budget.len() + self.over_budget.len()
    }

    /// Returns the number of running lookups.
    #[cfg(test)]
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// Admits a lookup, or queues it with the result of `waker`.
    pub(super) fn admit_or_enqueue(
        &mut self,
        client: Client,
        class: Class,
        now: Duration,
        waker: impl FnOnce() -> T,
    ) -> Decision<T> {
        if self.is_next(class) && self.acquire(now).is_ok() {
            self.record_admission(class);
            return Decision::Admitted;
        }
        let path = path(client);
        if self.queue(class).len_at(&path) >= self.limits.per_client {
            return Decision::Full;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.queue(class).push(&path, number, waker());
        let mut evicted = None;
        if self.waiting() > self.limits.total {
            evicted = self.evict();
        }
        match evicted {
            Some((evicted, _)) if evicted == number => Decision::Full,
            evicted => Decision::Queued {
                position: QueuePosition {
                    class,
                    path,
                    number,
                },
                evicted: evicted.map(|(_, waker)| waker),
            },
        }
    }

    /// Admits the next queued lookup. Returns `None` if none is queued, or until when it waits.
    pub(super) fn grant(&mut self, now: Duration) -> Result<Option<T>, Wait> {
        let Some(class) = self.next_class() else {
            return Ok(None);
        };
        self.acquire(now)?;
        self.record_admission(class);
        Ok(self.queue(class).pop().map(|(_, waker)| waker))
    }

    /// Records that an admitted lookup ended.
    pub(super) fn release(&mut self) {
        self.running -= 1;
    }

    /// Removes a lookup from the queue.
    pub(super) fn cancel(&mut self, position: QueuePosition) {
        self.queue(position.class)
            .remove(&position.path, position.number);
    }

    /// Removes a lookup of the class that exceeds its share.
    fn evict(&mut self) -> Option<(u64, T)> {
        let share = self.limits.total / OVER_BUDGET_SHARE as usize;
        if self.over_budget.len() > share {
            self.over_budget.evict()
        } else {
            self.in_budget.evict()
        }
    }

    /// Returns whether a new lookup of this class goes before all queued ones.
    fn is_next(&self, class: Class) -> bool {
        let next = self.next_class();
        next.is_none()
            || (class == Class::InBudget && self.in_budget.is_empty() && !self.over_budget_is_due())
    }

    fn next_class(&self) -> Option<Class> {
        match (self.in_budget.is_empty(), self.over_budget.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Class::OverBudget),
            (false, _) if self.over_budget_is_due() => Some(Class::OverBudget),
            (false, _) => Some(Class::InBudget),
        }
    }

    /// Returns whether the next lookup must be one over budget.
    fn over_budget_is_due(&self) -> bool {
        self.in_budget_streak >= OVER_BUDGET_SHARE - 1 && !self.over_budget.is_empty()
    }

    fn record_admission(&mut self, class: Class) {
        match class {
            Class::InBudget => self.in_budget_streak = self.in_budget_streak.saturating_add(1),
            Class::OverBudget => self.in_budget_streak = 0,
        }
    }

    fn acquire(&mut self, now: Duration) -> Result<(), Wait> {
        if self.running >= self.max_running.get() {
            return Err(Wait::UntilRelease);
        }
        self.full_at = self.rate.check(self.full_at, now).map_err(Wait::For)?;
        self.running += 1;
        Ok(())
    }

    fn queue(&mut self, class: Class) -> &mut FairQueue<T> {
        match class {
            Class::InBudget => &mut self.in_budget,
            Class::OverBudget => &mut self.over_budget,
        }
    }
}

#[cfg(test)]
mod tests;
