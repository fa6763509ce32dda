use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::{InsertTicketError, StoredTicket, TicketLimits, TicketStore};
use crate::digest::TokenDigest;
use crate::store::StoreError;
use crate::token::TokenId;

/// Between two removals of expired tickets.
const PRUNE_INTERVAL: Duration = Duration::from_secs(10);

/// Keeps tickets in the memory of this process. A ticket is accepted only by the process that issued
/// it. Clones share the tickets.
#[derive(Clone, Default)]
pub struct MemoryTicketStore {
    unused: Arc<Mutex<Unused>>,
    limits: TicketLimits,
}

#[derive(Default)]
struct Unused {
    by_digest: HashMap<[u8; 32], StoredTicket>,
    per_token: HashMap<TokenId, usize>,
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
        if is_due || unused.is_full(ticket.token_id, self.limits) {
            unused.prune(now);
        }
        if unused.is_full(ticket.token_id, self.limits) {
            return Err(InsertTicketError::TooMany);
        }
        unused.insert(ticket);
        Ok(())
    }

    async fn take(&self, digest: &TokenDigest) -> Result<Option<StoredTicket>, StoreError> {
        let mut unused = self.unused();
        let ticket = unused.by_digest.remove(digest.as_bytes());
        if let Some(ticket) = &ticket {
            unused.count_down(ticket.token_id);
        }
        Ok(ticket)
    }
}

impl Unused {
    fn is_full(&self, token: TokenId, limits: TicketLimits) -> bool {
        let of_token = self.per_token.get(&token).copied().unwrap_or_default();
        of_token >= limits.per_token || self.by_digest.len() >= limits.total
    }

    fn insert(&mut self, ticket: &StoredTicket) {
        let replaced = self
            .by_digest
            .insert(*ticket.digest.as_bytes(), ticket.clone());
        let expiry = ticket.expires_at;
        self.first_expiry = Some(self.first_expiry.map_or(expiry, |first| first.min(expiry)));
        if replaced.is_none() {
            *self.per_token.entry(ticket.token_id).or_default() += 1;
        }
    }

    fn prune(&mut self, now: SystemTime) {
        self.next_prune = now.checked_add(PRUNE_INTERVAL);
        // A token at its limit must not make every call visit all tickets.
        if self.first_expiry.is_none_or(|first| first > now) {
            return;
        }
        self.by_digest.retain(|_, ticket| ticket.expires_at > now);
        self.per_token.clear();
        let expiries = self.by_digest.values().map(|ticket| ticket.expires_at);
        self.first_expiry = expiries.min();
        for ticket in self.by_digest.values() {
            *self.per_token.entry(ticket.token_id).or_default() += 1;
        }
    }

    fn count_down(&mut self, token: TokenId) {
        if let Some(count) = self.per_token.get_mut(&token) {
            *count -= 1;
            if *count == 0 {
                self.per_token.remove(&token);
            }
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
