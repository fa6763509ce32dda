use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auto_impl::auto_impl;

use super::{ChangeListener, Credential, FeedStatus, StoreError, TokenRecord};

/// Looks up presented tokens.
///
/// Object-safe: a layer holds an `Arc<dyn TokenStore>`, so that other types need no type parameter
/// for the store. See the [module](super) for an example.
#[async_trait]
#[auto_impl(Arc)]
pub trait TokenStore: Send + Sync + 'static {
    /// Answers from memory, or returns that the store must be queried.
    ///
    /// This is the hot path: it must not block and should not allocate. The default returns
    /// [`Cached::Miss`].
    fn find_cached(&self, credential: &Credential<'_>) -> Cached {
        let _ = credential;
        Cached::Miss
    }

    /// Looks up the token, usually by [`Credential::digest`].
    ///
    /// The layer awaits it within the request and sets no timeout: a store that can hang should
    /// have one. The future may be dropped at any await.
    ///
    /// # Errors
    ///
    /// Returns an error if the store is unavailable. An unknown or invalid token is not an error.
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError>;

    /// Looks up the token at its source, past any cache. It is called before a change by the holder
    /// of a token from a [declared store](crate::ServiceTokens::with_actor_store), not for
    /// requests. The default calls [`find`](Self::find).
    ///
    /// # Errors
    ///
    /// Returns an error if the source could not be queried.
    async fn find_uncached(
        &self,
        credential: &Credential<'_>,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.find(credential).await
    }

    /// Sends every change to this store's tokens from now on to `listener`, as soon as the store
    /// learns of it. The default sends none; a cache in front then serves entries until they
    /// expire.
    ///
    /// The store must not keep the listener alive; a [`ChangeFeed`](super::ChangeFeed) does not.
    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        let _ = listener;
    }

    /// Returns the longest time until a [subscriber](Self::subscribe) receives a change, whichever
    /// process made it. The default is `None`: a notification may get lost, as with a connection
    /// that can be down.
    ///
    /// A cache in front guarantees this time instead of its own, so only a store that cannot miss a
    /// change may return one.
    fn feed_delay(&self) -> Option<Duration> {
        None
    }

    /// Returns whether the store receives the changes that other processes make. The default is
    /// [`FeedStatus::NotUsed`].
    fn feed_status(&self) -> FeedStatus {
        FeedStatus::NotUsed
    }
}

/// The result of [`TokenStore::find_cached`].
#[derive(Clone, Debug)]
pub enum Cached {
    /// The token is known.
    Found(TokenRecord),
    /// There is no such token; a lookup would not find it.
    NotFound,
    /// The token is not in memory: call [`TokenStore::find`].
    Miss,
}
