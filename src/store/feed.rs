use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use super::TokenRecord;
use crate::digest::TokenDigest;
use crate::token::TokenId;

/// Something about a store's tokens changed, so that what is remembered of them must be forgotten.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TokenChange {
    /// One token was added, changed or deleted.
    Token {
        /// The token.
        id: TokenId,
        /// Every digest it had before or has now.
        digests: Vec<TokenDigest>,
    },
    /// Anything may have changed: for a store that was out of touch, or changes a lot at once.
    Everything,
}

impl TokenChange {
    /// The change from one record of a token to another, or to and from none.
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
    /// The store has no connection or task that could fail: it is in memory, reads the source each
    /// time, or has no feed.
    NotUsed,
    /// The store receives changes.
    Connected,
    /// The store does not receive changes now. Caches in front serve entries until they expire.
    Lost,
}

/// Is told of changes.
pub trait ChangeListener: Send + Sync + 'static {
    /// Called before the method that made the change returns, or as soon as a store learns of a
    /// change made elsewhere. Must not block.
    fn changed(&self, change: &TokenChange);
}

/// Whom a store tells of its changes: what an author of a store needs for
/// [`TokenStore::subscribe`](super::TokenStore::subscribe).
///
/// Clones share the listeners. A listener is forgotten when nobody else holds it.
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
    /// Tells `listener` of every change from now on.
    pub fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        let mut listeners = self.0.write().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|known| known.strong_count() > 0);
        listeners.push(Arc::downgrade(listener));
    }

    /// Tells every listener, in this thread. To be called after the change is committed and before
    /// the method that made it returns.
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
