/// The largest numbers of open streams of a [`PrincipalWatcher`](super::PrincipalWatcher).
///
/// A stream is open until its [`PrincipalWatch`](super::PrincipalWatch) is dropped.
///
/// ```
/// use tower_service_token::MemoryStore;
/// use tower_service_token::streams::{PrincipalWatcher, StreamLimits};
///
/// let limits = StreamLimits::new().with_per_token(100);
/// assert_eq!(limits.per_owner(), 10_000);
/// let watcher = PrincipalWatcher::builder(MemoryStore::new()).with_limits(limits).build();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct StreamLimits {
    per_token: usize,
    per_owner: usize,
}

impl StreamLimits {
    /// Creates the default limits: 1,000 for each token, and 10,000 for each owner.
    pub fn new() -> Self {
        Self {
            per_token: 1_000,
            per_owner: 10_000,
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

    /// Returns the number of open streams of one token.
    pub fn per_token(&self) -> usize {
        self.per_token
    }

    /// Returns the number of open streams of all tokens with the same owner.
    pub fn per_owner(&self) -> usize {
        self.per_owner
    }
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self::new()
    }
}
