use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

type Source = Box<dyn Error + Send + Sync>;

/// The error of a failed lookup. It says nothing about the token.
///
/// The source is for logs and is never in a response. It must contain no secret. Clones share it,
/// because several requests may share one lookup.
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kind of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store is unreachable or timed out. The response is 503.
    Unavailable,
    /// The store refuses lookups because of too many failures or requests. The response is 429.
    RateLimited,
    /// The store has a corrupt record. The response is 500.
    Corrupt,
}

impl StoreError {
    /// Creates an error of a store that is unreachable or timed out.
    pub fn unavailable(source: impl Into<Source>) -> Self {
        Self::new(StoreErrorKind::Unavailable, Some(source.into()))
    }

    /// Creates an error of a store that refuses lookups for now.
    pub fn rate_limited(retry_after: Duration) -> Self {
        Self::new(StoreErrorKind::RateLimited, None).with_retry_after(retry_after)
    }

    /// Creates an error of a store with a corrupt record.
    pub fn corrupt(source: impl Into<Source>) -> Self {
        Self::new(StoreErrorKind::Corrupt, Some(source.into()))
    }

    /// Sets when to retry, sent as `Retry-After` in whole seconds, rounded up.
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Returns when to retry, if the store knows.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    fn new(kind: StoreErrorKind, source: Option<Source>) -> Self {
        Self {
            kind,
            retry_after: None,
            source: source.map(Arc::from),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StoreErrorKind::Unavailable => "the token store is unavailable",
            StoreErrorKind::RateLimited => "the token store rejects further requests",
            StoreErrorKind::Corrupt => "the token store has a corrupt record",
        })
    }
}

// Not derived: the source is the error in the `Arc`, which callers downcast, and not the `Arc`.
impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source: &(dyn Error + 'static) = self.source.as_deref()?;
        Some(source)
    }
}
