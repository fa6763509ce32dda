/// The largest numbers of open streams of a [`PrincipalWatcher`](super::PrincipalWatcher).
///
/// A stream is open until its [`PrincipalWatch`](super::PrincipalWatch) is dropped.
///
/// A token without an owner counts only for itself and in total. Give the tokens of each tenant an
/// owner, so that no tenant uses up the watcher.
///
/// ```
/// use tower_service_token::MemoryStore;
/// use tower_service_token::streams::{PrincipalWatcher, StreamLimits};
///
/// let limits = StreamLimits::new().with_per_token(100).with_per_owner(1_000);
/// assert_eq!(limits.total(), 100_000);
/// let watcher = PrincipalWatcher::builder(MemoryStore::new()).with_limits(limits).build();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct StreamLimits {
    per_token: usize,
    per_owner: usize,
    total: usize,
}

impl StreamLimits {
    /// Creates the default limits: 1,000 for each token, 10,000 for each owner, and 100,000 in total.
    pub fn new() -> Self {
        Self {
            per_token: 1_000,
            per_owner: 10_000,
            total: 100_000,
        }
    }

    /// Sets the number of open streams of one token. The default is 1,000.
    pub fn with_per_token(mut self, streams: usize) -> Self {
        self.per_token = streams;
        self
    }

    /// Sets the number of open streams of all tokens with the same owner. The default is 10,000.
    pub fn with_per_owner(mut self, streams: usize) -> Self {
        self.per_owner = streams;
        self
    }

    /// Sets the number of open streams of all tokens. The default is 100,000.
    pub fn with_total(mut self, streams: usize) -> Self {
        self.total = streams;
        self
    }

    /// Returns the number of open streams of one token.
    pub fn per_token(&self) -> usize {
        self.per_token
    }

    /// Returns the number of open streams of all tokens with the same owner.
    pub fn per_owner(&self) -> usize {
        self.per_owner
    }

    /// Returns the number of open streams of all tokens.
    pub fn total(&self) -> usize {
        self.total
    }
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self::new()
    }
}

/// Which of the [limits](StreamLimits) rejects a stream.
///
/// The source of the rejection of [`PrincipalWatcher::watch`](super::PrincipalWatcher::watch).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TooManyStreams {
    /// The token has too many open streams.
    #[error("the token has too many open streams")]
    PerToken,
    /// The tokens of the owner have too many open streams.
    #[error("the tokens of the owner have too many open streams")]
    PerOwner,
    /// All tokens together have too many open streams.
    #[error("all tokens together have too many open streams")]
    InTotal,
}
