use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use super::TokenRecord;
use crate::digest::TokenDigest;
use crate::token::TokenId;

/// A change to the tokens of a store, after which cached records must be evicted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TokenChange {
    /// One token was added, changed or deleted.
    ///
    /// A cache evicts the token by its digests if there are any, otherwise by its ID, or everything if
    /// it has no IDs. So list either all digests or none: a secret whose digest is missing from the
    /// list remains cached.
    Token {
        /// The token.
        id: TokenId,
        /// Every digest that the token had before or has now. Empty if the store does not know all of
        /// them.
        digests: Vec<TokenDigest>,
    },
    /// Any token may have changed. Used by a store that lost its connection, or that changes many
    /// tokens in one step.
    Everything,
}

impl TokenChange {
    /// Creates the change from one record of a token to another, or to and from none.
    ///
    /// `None` for both is [`Everything`](Self::Everything).
    pub fn between(before: Option<&TokenRecord>, after: Option<&TokenRecord>) -> Self {
        let records = || before.into_iter().chain(after);
        let Some(id) = records().map(TokenRecord::id).next() else {
            return Self::Everything;
        };
        let mut digests: Vec<TokenDigest> = Vec::new();
        for digest in records().flat_map(TokenRecord::digests) {
            if !digests.contains(digest) {
                digests.push(*digest);
            }
        }
        Self::Token { id, digests }
    }
}

/// Whether a store receives the changes that other processes make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedStatus {
    /// The store has no connection or task that could fail: it is in memory, reads its source on each
    /// lookup, or has no feed.
    NotUsed,
    /// The store receives changes.
    Connected,
    /// The store does not receive changes now. Caches in front serve entries until they expire.
    Lost,
}

/// Receives change notifications from a store.
pub trait ChangeListener: Send + Sync + 'static {
    /// Called before the method that makes the change returns, or when the store is notified of a
    /// change by another process. It must not block.
    fn changed(&self, change: &TokenChange);
}

/// The listeners of a store, for authors who implement
/// [`TokenStore::subscribe`](super::TokenStore::subscribe).
///
/// Clones share the listeners. A listener is removed when its last other `Arc` is dropped.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use std::sync::Arc;
/// use tower_service_token::store::{ChangeFeed, ChangeListener, TokenChange};
///
/// #[derive(Default)]
/// struct Count(AtomicUsize);
///
/// impl ChangeListener for Count {
///     fn changed(&self, _: &TokenChange) {
///         self.0.fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// let feed = ChangeFeed::default();
/// let count = Arc::new(Count::default());
/// feed.subscribe(&(count.clone() as Arc<dyn ChangeListener>));
/// feed.publish(&TokenChange::Everything);
/// assert_eq!(count.0.load(Ordering::Relaxed), 1);
/// ```
#[derive(Clone, Default)]
pub struct ChangeFeed(Arc<RwLock<Vec<Weak<dyn ChangeListener>>>>);

impl ChangeFeed {
    /// Registers a listener for all further changes.
    pub fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        let mut listeners = self.0.write().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|known| known.strong_count() > 0);
        listeners.push(Arc::downgrade(listener));
    }

    /// Calls every listener, on this thread. Call it after the change is committed and before the
    /// method that makes it returns.
    pub fn publish(&self, change: &TokenChange) {
        let listeners = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            listener.changed(change);
        }
    }
}

impl fmt::Debug for ChangeFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeFeed").finish_non_exhaustive()
    }
}
