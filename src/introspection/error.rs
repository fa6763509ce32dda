use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::store::StoreError;

type Source = Box<dyn Error + Send + Sync>;

/// Why an [`IntrospectionStore`](super::IntrospectionStore) could not look a token up: the
/// [source](Error::source) of its [`StoreError`].
///
/// `Display` is for logs. It may hold up to 200 bytes of what the server answered, escaped, with
/// the token, the client's secrets and all else that looks like one left out.
#[derive(Clone, Debug)]
pub struct IntrospectionError(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: IntrospectionErrorKind,
    message: String,
    status: Option<StatusCode>,
    retry_after: Option<Duration>,
    source: Option<Source>,
}

/// The causes of an [`IntrospectionError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IntrospectionErrorKind {
    /// The server did not answer in time or could not be reached, or it said 429 or 5xx.
    Transient,
    /// The server refuses *this client*: 401 or 403. Look at the client's id, secret and rights.
    Credentials,
    /// The server's answer is none that RFC 7662 knows.
    Protocol,
    /// The server failed too often just now and is not asked for a while.
    BreakerOpen,
    /// As many lookups are running as may run at a time.
    Overloaded,
}

impl IntrospectionError {
    pub(super) fn new(kind: IntrospectionErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            status: None,
            retry_after: None,
            source: None,
        }))
    }

    pub(super) fn transient(message: impl Into<String>) -> Self {
        Self::new(IntrospectionErrorKind::Transient, message)
    }

    pub(super) fn protocol(message: impl Into<String>) -> Self {
        Self::new(IntrospectionErrorKind::Protocol, message)
    }

    pub(super) fn with_status(self, status: StatusCode) -> Self {
        self.modify(|inner| inner.status = Some(status))
    }

    pub(super) fn with_retry_after(self, time: impl Into<Option<Duration>>) -> Self {
        self.modify(|inner| inner.retry_after = time.into())
    }

    pub(super) fn with_source(self, source: impl Into<Source>) -> Self {
        self.modify(|inner| inner.source = Some(source.into()))
    }

    /// What kept the store from looking.
    pub fn kind(&self) -> IntrospectionErrorKind {
        self.0.kind
    }

    /// The status of the server's answer, if there was one.
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// Whether asking again may help.
    pub(super) fn is_transient(&self) -> bool {
        self.0.kind == IntrospectionErrorKind::Transient
    }

    /// Only called while it is built and so has one owner.
    fn modify(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            change(inner);
        }
        self
    }
}

impl fmt::Display for IntrospectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match self.0.status {
            Some(status) => write!(f, " (status {})", status.as_u16()),
            None => Ok(()),
        }
    }
}

impl Error for IntrospectionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source: &(dyn Error + 'static) = self.0.source.as_deref()?;
        Some(source)
    }
}

impl From<IntrospectionError> for StoreError {
    fn from(error: IntrospectionError) -> Self {
        let retry_after = error.0.retry_after;
        let unavailable = Self::unavailable(error);
        match retry_after {
            Some(time) => unavailable.with_retry_after(time),
            None => unavailable,
        }
    }
}
