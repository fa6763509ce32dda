use std::collections::HashMap;
use std::time::Duration;

use super::rate::Rate;
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
