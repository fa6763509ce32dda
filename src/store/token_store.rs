use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auto_impl::auto_impl;

use super::{ChangeListener, FeedStatus, StoreError, TokenRecord};
use crate::digest::TokenDigest;
use crate::token::{PresentedToken, TokenId};

/// Looks up service tokens on the request path.
///
/// Implement this trait to authenticate against your own table or service. A store only finds
/// records. The [verdict](super::verdict()) decides for every store whether a token is revoked, expired
/// or rotated away, so an implementation cannot get that wrong.
///
/// Return `Ok(None)` only if the token does not exist. If the lookup itself fails, return an error:
/// the layer then responds with 503 and `Retry-After` instead of rejecting a client whose token may be
/// valid.
///
/// The trait is object-safe and needs the attribute [`async_trait`](macro@crate::async_trait), which this
/// crate re-exports. The layer holds an `Arc<dyn TokenStore>`, so the types of your
/// application do not become generic over the store. See the [module](super) for an example.
#[async_trait]
#[auto_impl(Arc)]
pub trait TokenStore: Send + Sync + 'static {
    /// Looks the token up without waiting.
    ///
    /// This is the hot path: it runs inside `Service::call`, so it must not block and should not
    /// allocate. Return [`Cached::Miss`] if only [`find`](Self::find) can tell. That is also the
    /// default.
    fn find_cached(&self, credential: &Credential<'_>) -> Cached {
        let _ = credential;
        Cached::Miss
    }

    /// Looks up the token, usually by [`Credential::digest`].
    ///
    /// The layer awaits it within the request and sets no timeout. A store that can hang should have
    /// one. The future may be dropped at any await point.
    ///
    /// # Errors
    ///
    /// Returns an error if the store is unavailable. An unknown or invalid token is not an error.
    async fn find(&self, credential: &Credential<'_>) -> Result<Option<TokenRecord>, StoreError>;

    /// Looks up the token at its source, bypassing any cache. It is not called for requests, but before
    /// a change by the holder of a token in a
    /// [declared store](crate::ServiceTokens::with_actor_store). The default calls
    /// [`find`](Self::find).
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

    /// Looks up a token that was accepted before, by its id and the digest that was presented. The
    /// token itself is no longer known. Bypasses any cache, as [`find_uncached`](Self::find_uncached)
    /// does.
    ///
    /// It is called when a [ticket](crate#modules) for a stream is redeemed and while a stream is open,
    /// not for other requests. The verdict compares the digest of the record with `digest`.
    ///
    /// # Errors
    ///
    /// Returns an error if the source could not be queried. The default is an error of the kind
    /// [`Unavailable`](super::StoreErrorKind::Unavailable), because a store that needs the token cannot
    /// implement it: it has no tickets, and streams cannot be kept open.
    async fn find_again(
        &self,
        id: TokenId,
        digest: &TokenDigest,
    ) -> Result<Option<TokenRecord>, StoreError> {
        let _ = (id, digest);
        Err(StoreError::unavailable(
            "the store cannot look up a token by its id and digest (`TokenStore::find_again`)",
        ))
    }

    /// Registers a listener for changes of this store's tokens. The default registers none, so a cache
    /// in front serves entries until they expire.
    ///
    /// Hold the listener weakly, as a [`ChangeFeed`](super::ChangeFeed) does.
    fn subscribe(&self, listener: &Arc<dyn ChangeListener>) {
        let _ = listener;
    }

    /// Returns the longest time until a [listener](Self::subscribe) is notified of a change by any
    /// process. The default is `None`: a notification may be lost, for example with a connection that
    /// can fail.
    ///
    /// A cache in front guarantees this time instead of its own TTL, so only a store that cannot miss
    /// a change may return one.
    fn feed_delay(&self) -> Option<Duration> {
        None
    }

    /// Returns whether the store receives the changes that other processes make. The default is
    /// [`FeedStatus::NotUsed`].
    fn feed_status(&self) -> FeedStatus {
        FeedStatus::NotUsed
    }

    /// Returns whether [listeners](Self::subscribe) receive every change at present. If not, code that
    /// depends on changes looks up its tokens again.
    ///
    /// The default is true while the feed is [connected](FeedStatus::Connected), or if there is a
    /// [`feed_delay`](Self::feed_delay).
    fn reports_changes(&self) -> bool {
        self.feed_delay().is_some() || self.feed_status() == FeedStatus::Connected
    }
}

/// The result of [`TokenStore::find_cached`].
///
/// Exhaustive on purpose: a match must handle every case, and a new one is a breaking change.
#[derive(Clone, Debug)]
pub enum Cached {
    /// The token is known.
    Found(TokenRecord),
    /// The token does not exist. A lookup would not find it.
    NotFound,
    /// The token is not in memory: call [`TokenStore::find`].
    Miss,
}

/// A presented token and its digest: the argument of a lookup.
///
/// Most stores look up the [`digest`](Self::digest). Only a store that forwards the token, such as
/// introspection, reads the [`token`](Self::token). `Debug` contains neither.
#[derive(Debug)]
pub struct Credential<'a> {
    token: PresentedToken<'a>,
    digest: TokenDigest,
}

impl<'a> Credential<'a> {
    /// Creates a credential from a token by hashing it.
    #[expect(
        clippy::inline_always,
        reason = "otherwise the digest is copied just after it was stored: 5 to 8 ns"
    )]
    #[inline(always)]
    pub fn new(token: PresentedToken<'a>) -> Self {
        let digest = TokenDigest::of_bytes(token.as_bytes());
        Self { token, digest }
    }

    /// Returns the token as it was presented.
    pub fn token(&self) -> &PresentedToken<'a> {
        &self.token
    }

    /// Returns the token's digest.
    pub fn digest(&self) -> &TokenDigest {
        &self.digest
    }

    /// Returns an owned copy, whose token is zeroed when dropped, for a lookup that outlives its
    /// request.
    pub fn to_owned(&self) -> Credential<'static> {
        Credential {
            token: self.token.to_owned(),
            digest: self.digest,
        }
    }

    /// Returns an owned copy, without copying a token that is already owned.
    pub fn into_owned(self) -> Credential<'static> {
        Credential {
            token: self.token.into_owned(),
            digest: self.digest,
        }
    }
}
