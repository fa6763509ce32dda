use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

type Source = Box<dyn Error + Send + Sync>;

/// A store could not look a token up. Not a statement about the token.
///
/// The source is for logs and never reaches the client; it must hold no secret. Clones share it:
/// several requests may wait for one lookup.
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What kept a store from looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It could not be reached or did not answer in time. The caller gets 503.
    Unavailable,
    /// It refuses to look because of too many failures or requests. The caller gets 429.
    RateLimited,
    /// It holds a record that makes no sense. The caller gets 500.
    Corrupt,
}

impl StoreError {
    /// The store could not be reached or did not answer in time.
    pub fn unavailable(source: impl Into<Source>) -> Self {
        Self::new(StoreErrorKind::Unavailable, Some(source.into()))
    }

    /// The store refuses to look for now.
    pub fn rate_limited(retry_after: Duration) -> Self {
        Self::new(StoreErrorKind::RateLimited, None).with_retry_after(retry_after)
    }

    /// The store holds a record that makes no sense.
    pub fn corrupt(source: impl Into<Source>) -> Self {
        Self::new(StoreErrorKind::Corrupt, Some(source.into()))
    }

    /// When asking again makes sense; sent as `Retry-After` in whole seconds, rounded up.
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// What kept the store from looking.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// When asking again makes sense, if the store knows.
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
            StoreErrorKind::RateLimited => "the token store refuses more requests",
            StoreErrorKind::Corrupt => "the token store holds a corrupt record",
        })
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source: &(dyn Error + 'static) = self.source.as_deref()?;
        Some(source)
    }
}
