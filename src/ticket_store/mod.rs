//! Where unused tickets are kept. `streams` exports the public types.

mod limits;
mod memory;

use std::time::SystemTime;

use async_trait::async_trait;
use auto_impl::auto_impl;

pub use self::limits::TicketLimits;
pub use self::memory::MemoryTicketStore;
use crate::digest::TokenDigest;
use crate::principal::RightsDigest;
use crate::store::StoreError;
use crate::token::TokenId;

/// Keeps unused tickets.
///
/// Nodes that share a store accept each other's tickets. A store only keeps tickets:
/// [`Tickets`](crate::streams::Tickets) decides whether a ticket has expired, and whether the token
/// behind it is still accepted.
#[async_trait]
#[auto_impl(Arc)]
pub trait TicketStore: Send + Sync + 'static {
    /// Inserts a ticket. The store may delete tickets that have expired at `now`.
    ///
    /// # Errors
    ///
    /// Returns [`TooManyPerToken`](InsertTicketError::TooManyPerToken),
    /// [`TooManyPerOwner`](InsertTicketError::TooManyPerOwner) or
    /// [`TooManyInTotal`](InsertTicketError::TooManyInTotal) if the token, its owner or the store has too many
    /// unused tickets that have not expired. Without the limit of an owner, one tenant can use up the
    /// store. Returns an error if the store is unavailable.
    async fn insert(&self, ticket: &StoredTicket, now: SystemTime)
    -> Result<(), InsertTicketError>;

    /// Removes the ticket with this digest and returns it.
    ///
    /// Of several concurrent calls, on any node, only one may return the ticket. If the outcome of the
    /// removal is unknown, return an error.
    ///
    /// # Errors
    ///
    /// Returns an error if the store is unavailable.
    async fn take(&self, digest: &TokenDigest) -> Result<Option<StoredTicket>, StoreError>;
}

/// What is stored about a ticket. Never the ticket itself.
///
/// Exhaustive on purpose: a store must keep every field.
#[derive(Clone, Debug)]
pub struct StoredTicket {
    /// The digest of the ticket.
    pub digest: TokenDigest,
    /// The id of the token that the ticket was issued to.
    pub token_id: TokenId,
    /// The digest of the secret that its holder presented.
    pub token_digest: TokenDigest,
    /// The owner of the token, whose tickets are counted together.
    pub owner: Option<String>,
    /// The digest of the rights that the token had.
    pub rights: RightsDigest,
    /// When the ticket expires.
    pub expires_at: SystemTime,
}

/// Why a ticket could not be inserted.
///
/// The limits are the source of the rejection of [`Tickets::issue`](crate::streams::Tickets::issue).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InsertTicketError {
    /// The token has too many unused tickets.
    #[error("the token has too many unused stream tickets")]
    TooManyPerToken,
    /// The tokens of the owner have too many unused tickets.
    #[error("the tokens of the owner have too many unused stream tickets")]
    TooManyPerOwner,
    /// All tokens together have too many unused tickets.
    #[error("all tokens together have too many unused stream tickets")]
    TooManyInTotal,
    /// The store is unavailable.
    #[error(transparent)]
    Store(#[from] StoreError),
}
