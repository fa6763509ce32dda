use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;

use super::client::Client;

/// What the budgets are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Whether there is something left, which stays there.
    Look(Client),
    /// To give up one failure.
    Count(Client),
}

/// When each client's budget will be whole again; as many of them as there are places.
pub(super) struct Table {
    places: usize,
    whole_at: Mutex<HashMap<Client, Nanos>>,
}

impl Table {
    pub(super) fn new(places: usize) -> Self {
        Self {
            places,
            whole_at: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Client, Nanos>> {
        // Each of the writes is one step, so a panic leaves nothing half-done.
        self.whole_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for Table {
    type Key = Step;

    fn measure_and_replace<T, F, E>(&self, step: &Step, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (Step::Look(client) | Step::Count(client)) = *step;
        let mut whole_at = self.lock();
        let has_place = whole_at.contains_key(&client) || whole_at.len() < self.places;
        let client = if has_place { client } else { Client::Newcomer };
        let (value, next) = f(whole_at.get(&client).copied())?;
        if matches!(step, Step::Count(_)) {
            whole_at.insert(client, next);
        }
        Ok(value)
    }
}

impl ShrinkableKeyedStateStore<Step> for Table {
    fn retain_recent(&self, drop_below: Nanos) {
        self.lock().retain(|_, whole_at| *whole_at > drop_below);
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}
