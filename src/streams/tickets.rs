use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::ticket::Ticket;
use crate::clock::{Clock, SystemClock};
use crate::observe::{self, RequestInfo};
use crate::principal::Principal;
use crate::reject::{Rejection, RejectionReason};
use crate::store::StoreError;
use crate::ticket_store::{InsertTicketError, RightsDigest, StoredTicket, TicketStore};

const DEFAULT_LIFETIME: Duration = Duration::from_secs(30);

const MAX_LIFETIME: Duration = Duration::from_secs(300);

/// Issues tickets, and redeems each of them once.
///
/// Clones share the tickets. Each has a lifetime and a clock of its own, so set these before you pass a
/// clone to a [`TicketLayer`](super::TicketLayer).
///
/// See the [module](super) for the rules and an example.
#[derive(Clone)]
#[must_use]
pub struct Tickets {
    pub(super) store: Arc<dyn TicketStore>,
    pub(super) clock: Arc<dyn Clock>,
    lifetime: Duration,
}

impl Tickets {
    /// Creates an issuer that keeps its tickets in `store`.
    pub fn new(store: impl TicketStore) -> Self {
        Self {
            store: Arc::new(store),
            clock: Arc::new(SystemClock),
            lifetime: DEFAULT_LIFETIME,
        }
    }

    /// Sets how long a ticket is valid, in whole seconds, at least 1 s and at most 5 min. The default is
    /// 30 s.
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        let seconds = Duration::from_secs(lifetime.as_secs());
        self.lifetime = seconds.clamp(Duration::from_secs(1), MAX_LIFETIME);
        self
    }

    /// Sets the clock that the expiry of tickets is evaluated with. The default is [`SystemClock`].
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Issues a ticket for the token of `principal`.
    ///
    /// # Errors
    ///
    /// Returns a rejection, which is already logged and counted: 429 if the token, its owner or the store
    /// has too many unused tickets (its source says which), 503 if the store or the random number generator is unavailable, 500 if the
    /// store is corrupt.
    pub async fn issue(&self, principal: &Principal) -> Result<Ticket, Rejection> {
        self.try_issue(principal).await.map_err(|rejection| {
            let rejection = rejection.with_principal(principal);
            observe::guard_rejected(rejection, &RequestInfo::default())
        })
    }

    async fn try_issue(&self, principal: &Principal) -> Result<Ticket, Rejection> {
        let now = self.clock.now();
        let ticket = Ticket::mint(now, self.lifetime)
            .map_err(|error| Rejection::from(StoreError::unavailable(error)))?;
        let stored = StoredTicket {
            digest: ticket.digest(),
            token_id: principal.id(),
            token_digest: principal.presented_digest(),
            owner: principal.owner().map(str::to_owned),
            rights: RightsDigest::of(principal),
            expires_at: ticket.expires_at(),
        };
        match self.store.insert(&stored, now).await {
            Ok(()) => Ok(ticket),
            Err(InsertTicketError::Store(error)) => Err(error.into()),
            // Room is made at the latest when the unused tickets have expired.
            Err(exceeded) => Err(Rejection::new(RejectionReason::TooManyTickets)
                .with_retry_after(self.lifetime)
                .with_source(exceeded)),
        }
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets")
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}
