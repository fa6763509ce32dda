use std::error::Error;
use std::fmt;

use crate::introspection::config_error::IntrospectionConfigError;

type Source = Box<dyn Error + Send + Sync>;

/// The introspection endpoint could not be discovered.
///
/// The source is for logs.
#[derive(Debug)]
pub struct DiscoveryError {
    kind: DiscoveryErrorKind,
    source: Source,
}

/// What kept the endpoint from being discovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiscoveryErrorKind {
    /// The store cannot be built as configured; the source is an [`IntrospectionConfigError`].
    Config,
    /// The server could not be reached, or did not answer in time. Trying again may help.
    Unavailable,
    /// The server's answer makes no sense, or names an endpoint that must not be asked.
    Protocol,
    /// The metadata is that of another issuer (RFC 8414, section 3.3).
    IssuerMismatch,
    /// The server publishes no introspection endpoint.
    NoEndpoint,
}

impl DiscoveryError {
    pub(super) fn new(kind: DiscoveryErrorKind, source: impl Into<Source>) -> Self {
        Self {
            kind,
            source: source.into(),
        }
    }

    pub(super) fn unavailable(source: impl Into<Source>) -> Self {
        Self::new(DiscoveryErrorKind::Unavailable, source)
    }

    pub(super) fn protocol(source: impl Into<Source>) -> Self {
        Self::new(DiscoveryErrorKind::Protocol, source)
    }

    /// What kept the endpoint from being discovered.
    pub fn kind(&self) -> DiscoveryErrorKind {
        self.kind
    }
}

impl From<IntrospectionConfigError> for DiscoveryError {
    fn from(error: IntrospectionConfigError) -> Self {
        Self::new(DiscoveryErrorKind::Config, error)
    }
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            DiscoveryErrorKind::Config => "introspection is not set up correctly",
            DiscoveryErrorKind::Unavailable => "the authorization server's metadata is unavailable",
            DiscoveryErrorKind::Protocol => "the authorization server's metadata makes no sense",
            DiscoveryErrorKind::IssuerMismatch => "the metadata is that of another issuer",
            DiscoveryErrorKind::NoEndpoint => {
                "the authorization server publishes no introspection endpoint"
            }
        })
    }
}

impl Error for DiscoveryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
