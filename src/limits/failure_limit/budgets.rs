use std::collections::HashMap;
use std::time::Duration;

use super::rate::Rate;
use crate::limits::client::Client;

/// The least time between two sweeps, so that a flood of clients does not pay for them.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The failures that each client may still have; a bounded number of clients has its own budget.
pub(super) struct Budgets {
    rate: Rate,
    max_clients: usize,
    /// When each budget is whole again. `None` is shared by all clients without a place.
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

    /// Returns whether the client may have another failure.
    pub(super) fn has_remaining(&self, client: Client, now: Duration) -> bool {
        let full_at = self.full_at.get(&self.key(client)).copied();
        self.rate.check(full_at.unwrap_or_default(), now).is_ok()
    }

    /// Counts a failure.
    ///
    /// Returns how long the client should have waited if its budget was spent before.
    pub(super) fn count(&mut self, client: Client, now: Duration) -> Result<(), Duration> {
        self.sweep(now);
        let place = self.key(client);
        let full_at = self.full_at.get(&place).copied();
        let next = self.rate.check(full_at.unwrap_or_default(), now)?;
        self.full_at.insert(place, next);
        Ok(())
    }

    fn key(&self, client: Client) -> Option<Client> {
        let own = Some(client);
        let has_place = self.full_at.contains_key(&own) || self.full_at.len() < self.max_clients;
        own.filter(|_| has_place)
    }

    /// Removes the budgets that are whole again if their places are needed.
    fn sweep(&mut self, now: Duration) {
        let is_due = now.saturating_sub(self.swept_at) >= SWEEP_INTERVAL;
        if self.full_at.len() >= self.max_clients && is_due {
            self.swept_at = now;
            self.full_at.retain(|_, full_at| *full_at > now);
        }
    }
}
