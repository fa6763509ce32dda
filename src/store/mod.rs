//! Stores of tokens: the trait behind the layer, and its implementations.
//!
//! Stores that own their tokens also implement [`TokenRegistry`](crate::registry::TokenRegistry).
//!
//! A store *finds* a record, and the [verdict](verdict()) *decides* for every store whether the token
//! is accepted. A store cannot forget expiry or compare unsafely. A lookup has three results, so that
//! a failure of the store is not mistaken for an invalid token:
//!
//! 1. `Ok(Some(record))`: the token is known.
//! 2. `Ok(None)`: the token does not exist. The response is 401.
//! 3. `Err(`[`StoreError`]`)`: the lookup failed. The response is 503, 429 or 500, by the
//!    [kind](StoreErrorKind), never 401.
//!
//! ```
//! use tower_service_token::async_trait;
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

#[cfg(feature = "tokio")]
mod cached;
mod chain;
mod error;
mod feed;
#[cfg(feature = "file")]
#[cfg_attr(docsrs, doc(cfg(feature = "file")))]
pub mod file;
mod memory;
pub(crate) mod record;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "postgres", feature = "sqlite"))))]
pub mod sql;
mod token_store;
mod verdict;

#[cfg(feature = "tokio")]
pub use self::cached::{CacheOccupancy, CachedStore};
pub use self::chain::ChainStore;
pub use self::error::{StoreError, StoreErrorKind};
pub use self::feed::{ChangeFeed, ChangeListener, FeedStatus, TokenChange};
pub use self::memory::{MemoryStore, MemoryStoreError};
pub use self::record::{ParseTokenStatusError, RotationKey, TokenRecord, TokenState, TokenStatus};
pub(crate) use self::record::{Repetition, RotationRequest};
pub use self::token_store::{Cached, Credential, TokenStore};
#[cfg(feature = "tokio")]
pub(crate) use self::verdict::verdict_again;
pub(crate) use self::verdict::verdict_of_digest;
pub use self::verdict::{Denial, DenialKind, verdict};
pub(crate) use crate::principal::{ADMIN_SCOPE, ADMIN_SCOPES, READ_SCOPE};
