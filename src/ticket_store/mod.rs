//! Where unused tickets are kept. `streams` exports the public types.

mod memory;

use std::time::SystemTime;

use async_trait::async_trait;
use auto_impl::auto_impl;

pub use self::memory::MemoryTicketStore;
use crate::digest::TokenDigest;
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
    /// Returns [`InsertTicketError::TooMany`] if the store or the token has too many unused tickets that
    /// have not expired. Returns an error if the store is unavailable.
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
    /// A hash of the rights that the token had.
    pub rights: [u8; 32],
    /// When the ticket expires.
    pub expires_at: SystemTime,
}

/// The largest numbers of unused tickets.
///
/// Exhaustive on purpose. The default is 16 for each token and 10,000 in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketLimits {
    /// The number of unused tickets of one token.
    pub per_token: usize,
    /// The number of unused tickets of all tokens.
    pub total: usize,
}

impl Default for TicketLimits {
    fn default() -> Self {
        Self {
            per_token: 16,
            total: 10_000,
        }
    }
}

/// Why a ticket could not be inserted.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InsertTicketError {
    /// There are too many unused tickets.
    #[error("too many unused stream tickets")]
    TooMany,
    /// The store is unavailable.
    #[error(transparent)]
    Store(#[from] StoreError),
}
