use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::ticket::Ticket;
use crate::clock::{Clock, SystemClock};
use crate::digest::TokenDigest;
use crate::observe::{self, RequestInfo};
use crate::principal::{Principal, RightsDigest};
use crate::reject::{Rejection, RejectionReason};
use crate::store::StoreError;
use crate::ticket_store::{InsertTicketError, StoredTicket, TicketStore};

const DEFAULT_LIFETIME: Duration = Duration::from_secs(30);

const MAX_LIFETIME: Duration = Duration::from_secs(300);

/// Issues tickets, and redeems each of them once.
///
/// Clones share the store and the settings.
///
/// See the [module](super) for the rules and an example.
#[derive(Clone)]
#[must_use]
pub struct Tickets(Arc<Shared>);

struct Shared {
    store: Arc<dyn TicketStore>,
    clock: Arc<dyn Clock>,
    lifetime: Duration,
}

impl Tickets {
    /// Creates an issuer that keeps its tickets in `store`.
    pub fn new(store: impl TicketStore) -> Self {
        Self::builder(store).build()
    }

    /// Creates a builder for an issuer with other settings than those of [`new`](Self::new).
    pub fn builder(store: impl TicketStore) -> TicketsBuilder {
        TicketsBuilder(Shared {
            store: Arc::new(store),
            clock: Arc::new(SystemClock),
            lifetime: DEFAULT_LIFETIME,
        })
    }

    /// Issues a ticket for the token of `principal`.
    ///
    /// # Errors
    ///
    /// Returns a rejection, which is already logged and counted:
    ///
    /// - 429 if the token, its owner or the store has too many unused tickets. The source of the
    ///   rejection is the [`InsertTicketError`] with the limit.
    /// - 503 if the store or the random number generator is unavailable.
    /// - 500 if the store is corrupt.
    pub async fn issue(&self, principal: &Principal) -> Result<Ticket, Rejection> {
        self.try_issue(principal).await.map_err(|rejection| {
            let rejection = rejection.with_principal(principal);
            observe::guard_rejected(rejection, &RequestInfo::default())
        })
    }

    async fn try_issue(&self, principal: &Principal) -> Result<Ticket, Rejection> {
        let Shared {
            store,
            clock,
            lifetime,
        } = &*self.0;
        let now = clock.now();
        let ticket = Ticket::mint(now, *lifetime)
            .map_err(|error| Rejection::from(StoreError::unavailable(error)))?;
        let stored = StoredTicket {
            digest: ticket.digest(),
            token_id: principal.id(),
            token_digest: principal.presented_digest(),
            owner: principal.owner().map(str::to_owned),
            rights: RightsDigest::of(principal),
            expires_at: ticket.expires_at(),
        };
        match store.insert(&stored, now).await {
            Ok(()) => Ok(ticket),
            Err(InsertTicketError::Store(error)) => Err(error.into()),
            // Room is made at the latest when the unused tickets have expired.
            Err(exceeded) => Err(Rejection::new(RejectionReason::TooManyTickets)
                .with_retry_after(*lifetime)
                .with_source(exceeded)),
        }
    }

    /// Takes a ticket that has not expired.
    pub(super) async fn take(
        &self,
        ticket: &TokenDigest,
    ) -> Result<Option<StoredTicket>, StoreError> {
        let taken = self.0.store.take(ticket).await?;
        let now = self.0.clock.now();
        // In constant time, whatever the store compared.
        Ok(taken.filter(|it| it.digest == *ticket && now < it.expires_at))
    }
}

/// Builds [`Tickets`]. Created by [`Tickets::builder`].
#[must_use]
pub struct TicketsBuilder(Shared);

impl TicketsBuilder {
    /// Sets how long a ticket is valid, in whole seconds, at least 1 s and at most 5 min. The default is
    /// 30 s.
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        let seconds = Duration::from_secs(lifetime.as_secs());
        self.0.lifetime = seconds.clamp(Duration::from_secs(1), MAX_LIFETIME);
        self
    }

    /// Sets the clock that the expiry of tickets is evaluated with. The default is [`SystemClock`].
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.0.clock = Arc::new(clock);
        self
    }

    /// Creates the issuer.
    pub fn build(self) -> Tickets {
        Tickets(Arc::new(self.0))
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets")
            .field("lifetime", &self.0.lifetime)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TicketsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketsBuilder")
            .field("lifetime", &self.0.lifetime)
            .finish_non_exhaustive()
    }
}
