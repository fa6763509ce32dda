use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::store::StoreError;

/// The error of a failed lookup in an [`IntrospectionStore`](super::IntrospectionStore): the
/// [source](Error::source) of its [`StoreError`].
///
/// `Display` is for logs. It may contain up to 200 bytes of the server's response, escaped, without
/// the token, the client's secrets and any text that looks like a secret.
#[derive(Clone, Debug)]
pub struct IntrospectionError {
    kind: IntrospectionErrorKind,
    message: String,
    status: Option<StatusCode>,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kind of an [`IntrospectionError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IntrospectionErrorKind {
    /// The server is unreachable or timed out, or the status was 429 or 5xx.
    Transient,
    /// The server rejected *this client*: 401 or 403. Check the client's id, secret and permissions.
    Credentials,
    /// The response does not conform to RFC 7662.
    Protocol,
    /// The circuit breaker is open because too many calls failed.
    BreakerOpen,
    /// Too many lookups are in progress.
    Overloaded,
}

/// The request could not be created. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    #[error("cannot sign the client assertion")]
    Signing,
    #[error("the client credentials are not a valid header value")]
    Credentials,
}

impl IntrospectionError {
    pub(super) fn new(kind: IntrospectionErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            status: None,
            retry_after: None,
            source: None,
        }
    }

    pub(super) fn transient(message: impl Into<String>) -> Self {
        Self::new(IntrospectionErrorKind::Transient, message)
    }

    pub(super) fn timed_out() -> Self {
        Self::transient("the server timed out")
    }

    pub(super) fn protocol(message: impl Into<String>) -> Self {
        Self::new(IntrospectionErrorKind::Protocol, message)
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    pub(super) fn with_retry_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.retry_after = time.into();
        self
    }

    pub(super) fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> IntrospectionErrorKind {
        self.kind
    }

    /// Returns the status of the server's response, if there was one.
    pub fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// Returns whether a retry may succeed.
    pub(super) fn is_transient(&self) -> bool {
        self.kind == IntrospectionErrorKind::Transient
    }
}

impl fmt::Display for IntrospectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.status {
            Some(status) => write!(f, " (status {})", status.as_u16()),
            None => Ok(()),
        }
    }
}

impl Error for IntrospectionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source: &(dyn Error + 'static) = self.source.as_deref()?;
        Some(source)
    }
}

impl From<IntrospectionError> for StoreError {
    fn from(error: IntrospectionError) -> Self {
        let retry_after = error.retry_after;
        let unavailable = Self::unavailable(error);
        match retry_after {
            Some(time) => unavailable.with_retry_after(time),
            None => unavailable,
        }
    }
}
