use std::error::Error;

use super::config_error::IntrospectionConfigError;

type Source = Box<dyn Error + Send + Sync>;

/// The introspection endpoint could not be discovered.
///
/// The [source](Error::source) is for logs.
#[derive(Debug, thiserror::Error)]
#[error("{}", .kind.message())]
pub struct DiscoveryError {
    kind: DiscoveryErrorKind,
    source: Source,
}

/// The kind of a [`DiscoveryError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiscoveryErrorKind {
    /// The store is misconfigured. The source is an [`IntrospectionConfigError`].
    Config,
    /// The server is unreachable or timed out, or responded with 408, 429 or 5xx. A retry may succeed.
    Unavailable,
    /// The metadata is malformed, or names an endpoint that must not receive credentials.
    Protocol,
    /// The metadata belongs to another issuer (RFC 8414, section 3.3).
    IssuerMismatch,
    /// The server publishes no introspection endpoint.
    NoEndpoint,
}

impl DiscoveryError {
    pub(super) fn new(kind: DiscoveryErrorKind, source: impl Into<Source>) -> Self {
        let source = source.into();
        Self { kind, source }
    }

    pub(super) fn unavailable(source: impl Into<Source>) -> Self {
        Self::new(DiscoveryErrorKind::Unavailable, source)
    }

    pub(super) fn protocol(source: impl Into<Source>) -> Self {
        Self::new(DiscoveryErrorKind::Protocol, source)
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> DiscoveryErrorKind {
        self.kind
    }
}

impl DiscoveryErrorKind {
    fn message(self) -> &'static str {
        match self {
            Self::Config => "invalid introspection settings",
            Self::Unavailable => "the authorization server's metadata is unavailable",
            Self::Protocol => "the authorization server's metadata is malformed",
            Self::IssuerMismatch => "the metadata belongs to another issuer",
            Self::NoEndpoint => "the authorization server publishes no introspection endpoint",
        }
    }
}

impl From<IntrospectionConfigError> for DiscoveryError {
    fn from(error: IntrospectionConfigError) -> Self {
        Self::new(DiscoveryErrorKind::Config, error)
    }
}
