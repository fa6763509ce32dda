//! Where tokens are known: the trait behind the layer, and the stores that come with it.
//!
//! A store *finds*; whether what it found is good enough is [decided](verdict) by this crate, the
//! same way for every store. So a store cannot forget expiry or compare unsafely, and its three
//! answers keep its own outage apart from a bad token:
//!
//! 1. `Ok(Some(record))`: the token is known.
//! 2. `Ok(None)`: there is no such token. The caller gets 401.
//! 3. `Err(`[`StoreError`]`)`: could not look. The caller gets 503, never 401.
//!
//! ```
//! use async_trait::async_trait;
//! use tower_service_token::digest::TokenDigest;
//! use tower_service_token::store::{Credential, StoreError, TokenRecord, TokenStore};
//! use tower_service_token::token::TokenId;
//!
//! /// Knows one token, by its digest.
//! struct OneToken(TokenId, TokenDigest);
//!
//! #[async_trait]
//! impl TokenStore for OneToken {
//!     async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
//!         let Self(id, digest) = *self;
//!         Ok((*credential.digest() == digest).then(|| TokenRecord::new(id, digest)))
//!     }
//! }
//! ```

mod audit;
mod authority;
#[cfg(feature = "tokio")]
mod cached;
mod chain;
mod credential;
mod error;
mod feed;
#[cfg(feature = "file")]
mod file;
#[cfg(feature = "introspection")]
mod introspection;
#[cfg(feature = "tokio")]
mod key;
mod last_used;
mod listing;
mod memory;
mod record;
mod registry;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use self::audit::{
    AuditAction, AuditEvent, AuditSink, FieldChange, ParseAuditActionError, TracingAuditSink,
};
pub use self::authority::AuthorityError;
pub(crate) use self::authority::{ADMIN_SCOPE, ADMIN_SCOPES, Authority, adds_rights};
#[cfg(feature = "tokio")]
pub use self::cached::{CacheOccupancy, CachedStore};
pub use self::chain::ChainStore;
pub use self::credential::Credential;
pub use self::error::{StoreError, StoreErrorKind};
pub use self::feed::{ChangeFeed, ChangeListener, FeedStatus, TokenChange};
#[cfg(feature = "file")]
pub use self::file::{FileStatus, FileStore, FileStoreError, FileStoreErrorKind, FileStoreOptions};
#[cfg(feature = "introspection")]
#[cfg_attr(docsrs, doc(cfg(feature = "introspection")))]
pub use self::introspection::{
    BreakerState, ClientAuth, DiscoveryError, DiscoveryErrorKind, IntrospectionBuilder,
    IntrospectionConfigError, IntrospectionError, IntrospectionErrorKind, IntrospectionStatus,
    IntrospectionStore, PrivateKeyJwt,
};
#[cfg(feature = "tokio")]
pub use self::last_used::FlushTask;
pub use self::last_used::LastUsed;
pub use self::listing::{Cursor, CursorError, ListOrder, ListRequest, TokenFilter, TokenPage};
pub use self::memory::{MemoryStore, MemoryStoreError};
pub use self::record::{ParseTokenStatusError, TokenRecord, TokenState, TokenStatus};
pub use self::registry::{RegistryError, TokenRegistry, Write};
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use self::sql::PostgresStore;
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use self::sql::SqliteStore;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "postgres", feature = "sqlite"))))]
pub use self::sql::{OpenStoreError, OpenStoreErrorKind, StoreState};
pub use self::verdict::{Denial, DenialKind, verdict};

/// Finds what is known about a presented token.
///
/// Object-safe: a layer holds an `Arc<dyn TokenStore>`, and nothing else carries a type parameter
/// for it. See the [module](self) for an example.
#[async_trait]
pub trait TokenStore: Send + Sync + 'static {
    /// Answers from memory, or says that the store must be asked.
    ///
    /// The hot path. It must not block and should not allocate. The default always says
    /// [`Cached::Miss`].
    fn find_cached(&self, credential: &Credential<'_>) -> Cached {
        let _ = credential;
        Cached::Miss
    }

    /// Looks the token up, usually by [`Credential::digest`].
    ///
    /// Awaited within the request, without a time limit of the layer's own: a store that can hang
    /// should have one, and a caller may put a timeout around the whole service. The future may be
    /// dropped at any await.
    ///
    /// # Errors
    ///
    /// The store could not look. Never to be used for a token that is unknown or no longer good.
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError>;

    /// Looks the token up at its source, where [`find`](Self::find) may return what a cache still
    /// remembers. Called before a change by the holder of a token from a
    /// [declared store](crate::ServiceTokens::with_actor_store), not for requests. The default calls
    /// `find`.
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

    /// Tells `listener` of every change to this store's tokens from now on, as soon as the store
    /// learns of it. A store that cannot know of changes, as by default, never tells; then a cache
    /// in front remembers for as long as it may.
    ///
    /// The store must not keep the listener alive: a [`ChangeFeed`] does not.
    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        let _ = listener;
    }

    /// How long after a change, whoever made it, a [subscriber](Self::subscribe) is told of it at
    /// the latest. Default: `None`, it may never be told, as where the news come by a connection
    /// that can be down.
    ///
    /// A cache in front promises this time instead of its own, so only a store that cannot miss a
    /// change may name one.
    fn feed_delay(&self) -> Option<Duration> {
        None
    }

    /// Returns whether the store receives the changes that other processes make. The default is
    /// [`FeedStatus::NotUsed`].
    fn feed_status(&self) -> FeedStatus {
        FeedStatus::NotUsed
    }
}

/// What a store can say without waiting.
#[derive(Clone, Debug)]
pub enum Cached {
    /// The token is known.
    Found(TokenRecord),
    /// There is no such token; asking would not help.
    NotFound,
    /// Only [`TokenStore::find`] can tell.
    Miss,
}

#[async_trait]
impl<S: TokenStore + ?Sized> TokenStore for Arc<S> {
    fn find_cached(&self, credential: &Credential<'_>) -> Cached {
        (**self).find_cached(credential)
    }

    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError> {
        (**self).find(credential).await
    }

    async fn find_uncached(
        &self,
        credential: &Credential<'_>,
    ) -> Result<Option<TokenRecord>, StoreError> {
        (**self).find_uncached(credential).await
    }

    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        (**self).subscribe(listener);
    }

    fn feed_delay(&self) -> Option<Duration> {
        (**self).feed_delay()
    }

    fn feed_status(&self) -> FeedStatus {
        (**self).feed_status()
    }
}
