use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::limits::client::Client;

/// The minimum time between two sweeps, which limits their cost during a flood of clients.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The failure budgets of clients. A bounded number of clients has a budget of its own.
pub(super) struct Budgets {
    rate: Rate,
    max_clients: usize,
    /// When each budget is full again. All clients without a budget of their own share `None`.
    full_at: HashMap<Option<Client>, Duration>,
    swept_at: Duration,
}

impl Budgets {
    pub(super) fn new(rate: Rate, max_clients: usize) -> Self {
        Self {
            rate,
            max_clients,
            full_at: HashMap::new(),
            swept_at: Duration::ZERO,
        }
    }

    /// Returns whether the budget of the client is not exhausted.
    pub(super) fn has_remaining(&self, client: Client, now: Duration) -> bool {
        let full_at = self.full_at.get(&self.key(client)).copied();
        self.rate.check(full_at.unwrap_or_default(), now).is_ok()
    }

    /// Counts a failure. Returns when to retry if the budget is exhausted.
    pub(super) fn count(&mut self, client: Client, now: Duration) -> Result<(), Duration> {
        self.sweep(now);
        let key = self.key(client);
        let full_at = self.full_at.get(&key).copied();
        let next = self.rate.check(full_at.unwrap_or_default(), now)?;
        self.full_at.insert(key, next);
        Ok(())
    }

    fn key(&self, client: Client) -> Option<Client> {
        let own = Some(client);
        let has_room = self.full_at.contains_key(&own) || self.full_at.len() < self.max_clients;
        own.filter(|_| has_room)
    }

    /// Removes the budgets that are full again if all places are taken.
    fn sweep(&mut self, now: Duration) {
        let is_due = now.saturating_sub(self.swept_at) >= SWEEP_INTERVAL;
        if self.full_at.len() >= self.max_clients && is_due {
            self.swept_at = now;
            self.full_at.retain(|_, full_at| *full_at > now);
        }
    }
}

/// A rate with a burst, by the generic cell rate algorithm (GCRA). The only state of a user is the
/// time at which its burst is full again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    interval: Duration,
    burst: NonZeroU32,
}

impl Rate {
    /// Creates a rate of `burst` events at once and one more per `interval`. The interval is shortened
    /// if refilling the burst would take more than a hundred years.
    pub(super) fn new(burst: NonZeroU32, interval: Duration) -> Self {
        let longest = Duration::from_nanos(u64::MAX / 4 / u64::from(burst.get()));
        let interval = interval.clamp(Duration::from_nanos(1), longest);
        Self { interval, burst }
    }

    /// Returns when the burst is full again after an event `now`, or how long to wait for one.
    pub(super) fn check(&self, full_at: Duration, now: Duration) -> Result<Duration, Duration> {
        let next = full_at.max(now).saturating_add(self.interval);
        let latest = now.saturating_add(self.interval * self.burst.get());
        match next.saturating_sub(latest) {
            Duration::ZERO => Ok(next),
            wait => Err(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_a_burst_and_then_one_per_interval() {
        let rate = Rate::new(NonZeroU32::MIN.saturating_add(2), Duration::from_secs(1));
        let (mut full_at, start) = (Duration::ZERO, Duration::from_secs(100));
        for _ in 0..3 {
            full_at = rate.check(full_at, start).expect("within the burst");
        }
        assert_eq!(rate.check(full_at, start), Err(Duration::from_secs(1)));
        let later = start + Duration::from_millis(400);
        assert_eq!(rate.check(full_at, later), Err(Duration::from_millis(600)));
        let later = start + Duration::from_secs(1);
        full_at = rate.check(full_at, later).expect("one more");
        assert_eq!(rate.check(full_at, later), Err(Duration::from_secs(1)));
        assert!(rate.check(full_at, start + Duration::from_secs(9)).is_ok());
    }

    #[test]
    fn extreme_settings_do_not_overflow() {
        for burst in [NonZeroU32::MIN, NonZeroU32::MAX] {
            let rate = Rate::new(burst, Duration::MAX);
            let full_at = rate.check(Duration::ZERO, Duration::MAX);
            assert_eq!(full_at, Ok(Duration::MAX));
            let rate = Rate::new(burst, Duration::ZERO);
            assert!(rate.check(Duration::ZERO, Duration::ZERO).is_ok());
        }
    }
}
