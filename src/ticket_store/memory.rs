use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::{InsertTicketError, StoredTicket, TicketLimits, TicketStore};
use crate::digest::TokenDigest;
use crate::store::StoreError;
use crate::token::TokenId;

/// Between two removals of expired tickets.
const PRUNE_INTERVAL: Duration = Duration::from_secs(10);

/// Keeps tickets in the memory of this process. A ticket is accepted only by the process that issued
/// it.
///
/// To share it, wrap it in an [`Arc`](std::sync::Arc), which is a store as well.
#[derive(Default)]
#[must_use]
pub struct MemoryTicketStore {
    unused: Mutex<Unused>,
    limits: TicketLimits,
}

#[derive(Default)]
struct Unused {
    by_digest: HashMap<[u8; 32], StoredTicket>,
    per_token: HashMap<TokenId, usize>,
    per_owner: HashMap<String, usize>,
    next_prune: Option<SystemTime>,
    /// The expiry of the ticket that expires first, or an earlier time.
    first_expiry: Option<SystemTime>,
}

impl MemoryTicketStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the largest numbers of unused tickets. See [`TicketLimits`] for the defaults.
    pub fn with_limits(mut self, limits: TicketLimits) -> Self {
        self.limits = limits;
        self
    }

    fn unused(&self) -> MutexGuard<'_, Unused> {
        // A panic cannot leave the tickets inconsistent.
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TicketStore for MemoryTicketStore {
    async fn insert(
        &self,
        ticket: &StoredTicket,
        now: SystemTime,
    ) -> Result<(), InsertTicketError> {
        let mut unused = self.unused();
        let is_due = unused.next_prune.is_none_or(|due| now >= due);
        if is_due || unused.check(ticket, self.limits).is_err() {
            unused.prune(now);
        }
        unused.check(ticket, self.limits)?;
        unused.insert(ticket);
        Ok(())
    }

    async fn take(&self, digest: &TokenDigest) -> Result<Option<StoredTicket>, StoreError> {
        let mut unused = self.unused();
        let ticket = unused.by_digest.remove(digest.as_bytes());
        if let Some(ticket) = &ticket {
            unused.count_down(ticket);
        }
        Ok(ticket)
    }
}

impl Unused {
    /// Returns an error if there is no room for this ticket.
    fn check(&self, ticket: &StoredTicket, limits: TicketLimits) -> Result<(), InsertTicketError> {
        let of_token = self.per_token.get(&ticket.token_id);
        let of_owner = ticket.owner.as_ref().and_then(|it| self.per_owner.get(it));
        let is_full = |count: Option<&usize>, limit| count.copied().unwrap_or_default() >= limit;
        if is_full(of_token, limits.per_token()) {
            Err(InsertTicketError::TooManyPerToken)
        } else if ticket.owner.is_some() && is_full(of_owner, limits.per_owner()) {
            Err(InsertTicketError::TooManyPerOwner)
        } else if self.by_digest.len() >= limits.total() {
            Err(InsertTicketError::TooManyInTotal)
        } else {
            Ok(())
        }
    }

    fn insert(&mut self, ticket: &StoredTicket) {
        let digest = *ticket.digest.as_bytes();
        let replaced = self.by_digest.insert(digest, ticket.clone());
        let expiry = ticket.expires_at;
        self.first_expiry = Some(self.first_expiry.map_or(expiry, |first| first.min(expiry)));
        if let Some(replaced) = replaced {
            self.count_down(&replaced);
        }
        self.count_up(ticket);
    }

    fn prune(&mut self, now: SystemTime) {
        self.next_prune = now.checked_add(PRUNE_INTERVAL);
        // A token at its limit must not make every call visit all tickets.
        if self.first_expiry.is_none_or(|first| first > now) {
            return;
        }
        let is_expired = |_: &[u8; 32], ticket: &mut StoredTicket| ticket.expires_at <= now;
        let expired: Vec<_> = self.by_digest.extract_if(is_expired).collect();
        for (_, ticket) in &expired {
            self.count_down(ticket);
        }
        let expiries = self.by_digest.values().map(|ticket| ticket.expires_at);
        self.first_expiry = expiries.min();
    }

    fn count_up(&mut self, ticket: &StoredTicket) {
        *self.per_token.entry(ticket.token_id).or_default() += 1;
        if let Some(owner) = &ticket.owner {
            *self.per_owner.entry(owner.clone()).or_default() += 1;
        }
    }

    fn count_down(&mut self, ticket: &StoredTicket) {
        count_down(&mut self.per_token, &ticket.token_id);
        if let Some(owner) = &ticket.owner {
            count_down(&mut self.per_owner, owner);
        }
    }
}

/// Removes a count that becomes 0.
fn count_down<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl fmt::Debug for MemoryTicketStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTicketStore")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
