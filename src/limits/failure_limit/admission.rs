use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::fair_queue::FairQueue;
use super::rate::Rate;
use crate::limits::client::Client;

/// Clients beyond their budget have one lookup of so many, and one place in the queue of so many,
/// if others want the rest.
const OVER_BUDGET_SHARE: u32 = 4;

/// Decides when a lookup may run, so that all together stay below a rate and few run at a time.
///
/// `T` is what wakes a lookup that waits. Lookups of clients within their failure budget go first,
/// but for a share. Within each of the two classes clients take turns.
pub(super) struct Admission<T> {
    rate: Rate,
    full_at: Duration,
    in_budget: FairQueue<T>,
    over_budget: FairQueue<T>,
    /// How many lookups of the first class ran since the last one of the second.
    in_budget_streak: u32,
    next_number: u64,
    /// How many lookups were admitted and have not been [released](Self::release).
    running: usize,
    max_running: NonZeroUsize,
    limits: QueueLimits,
}

/// How many lookups may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimits {
    pub(super) total: usize,
    pub(super) per_client: usize,
}

/// What the next lookup waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// For this time: the rate does not allow it yet.
    For(Duration),
    /// Until a running lookup ends.
    UntilRelease,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    InBudget,
    OverBudget,
}

/// Where a lookup waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueuePosition {
    class: Class,
    client: Client,
    number: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision<T> {
    Admitted,
    Queued {
        position: QueuePosition,
        /// A lookup that lost its place.
        evicted: Option<T>,
    },
    Full,
}

impl<T> Admission<T> {
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

    /// Returns how many lookups wait.
    pub(super) fn waiting(&self) -> usize {
        self.in_budget.len() + self.over_budget.len()
    }

    /// Returns how many lookups run.
    #[cfg(test)]
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// Admits a lookup, or gives it a place in the queue of its class. `waker` makes what wakes it.
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
        if self.queue(class).len_of(client) >= self.limits.per_client {
            return Decision::Full;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.queue(class).push(client, number, waker());
        let mut evicted = None;
        if self.waiting() > self.limits.total {
            evicted = self.evict();
        }
        match evicted {
            Some((evicted, _)) if evicted == number => Decision::Full,
            evicted => Decision::Queued {
                position: QueuePosition {
                    class,
                    client,
                    number,
                },
                evicted: evicted.map(|(_, waker)| waker),
            },
        }
    }

    /// Returns the next lookup that may run, `None` if none waits, or what it waits for.
    pub(super) fn grant(&mut self, now: Duration) -> Result<Option<T>, Wait> {
        let Some(class) = self.next_class() else {
            return Ok(None);
        };
        self.acquire(now)?;
        self.record_admission(class);
        Ok(self.queue(class).pop())
    }

    /// Notes that an admitted lookup ended.
    pub(super) fn release(&mut self) {
        self.running -= 1;
    }

    /// Gives up a place.
    pub(super) fn cancel(&mut self, position: QueuePosition) {
        self.queue(position.class)
            .remove(position.client, position.number);
    }

    /// Takes a place from the class that has more than its share.
    fn evict(&mut self) -> Option<(u64, T)> {
        let share = self.limits.total / OVER_BUDGET_SHARE as usize;
        if self.over_budget.len() > share {
            self.over_budget.evict()
        } else {
            self.in_budget.evict()
        }
    }

    /// Returns whether a lookup that arrives need not wait for any other.
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

    /// Returns whether it is the turn of the second class.
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
