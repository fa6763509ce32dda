/// The largest numbers of unused tickets of a store.
///
/// A token without an owner counts only for itself and in total. Give the tokens of each tenant an
/// owner, so that no tenant uses up the store. With the defaults, ten owners together can: if anyone
/// can sign up, lower the number per owner.
///
/// ```
/// use tower_service_token::streams::{MemoryTicketStore, TicketLimits};
///
/// let limits = TicketLimits::new().with_per_token(4).with_per_owner(100);
/// assert_eq!(limits.total(), 10_000);
/// let store = MemoryTicketStore::new().with_limits(limits);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct TicketLimits {
    per_token: usize,
    per_owner: usize,
    total: usize,
}

impl TicketLimits {
    /// Creates the default limits: 16 for each token, 1,000 for each owner, and 10,000 in total.
    pub fn new() -> Self {
        Self {
            per_token: 16,
            per_owner: 1_000,
            total: 10_000,
        }
    }

    /// Sets the number of unused tickets of one token. The default is 16.
    pub fn with_per_token(mut self, tickets: usize) -> Self {
        self.per_token = tickets;
        self
    }

    /// Sets the number of unused tickets of all tokens with the same owner. The default is 1,000.
    pub fn with_per_owner(mut self, tickets: usize) -> Self {
        self.per_owner = tickets;
        self
    }

    /// Sets the number of unused tickets of all tokens. The default is 10,000.
    pub fn with_total(mut self, tickets: usize) -> Self {
        self.total = tickets;
        self
    }

    /// Returns the number of unused tickets of one token.
    pub fn per_token(&self) -> usize {
        self.per_token
    }

    /// Returns the number of unused tickets of all tokens with the same owner.
    pub fn per_owner(&self) -> usize {
        self.per_owner
    }

    /// Returns the number of unused tickets of all tokens.
    pub fn total(&self) -> usize {
        self.total
    }
}

impl Default for TicketLimits {
    fn default() -> Self {
        Self::new()
    }
}
