use super::super::add_token::TokenSourceError;
use crate::transport::TransportConfigError;

/// The configuration of a [`ServiceTokensClient`](super::ServiceTokensClient) is invalid.
///
/// Messages repeat neither the URL, which may contain a password, nor the token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientConfigError {
    /// The URL is not an absolute `http` or `https` URL with a host.
    #[error("the URL is not an absolute http or https URL")]
    InvalidUrl,
    /// The URL is `http` and its host is neither a loopback address nor `localhost`, so the token
    /// could be read on the network.
    #[error("the URL is not https; http is allowed only for 127.0.0.0/8, [::1] and localhost")]
    Insecure,
    /// The URL contains a user name or password.
    #[error("the URL contains a user name or password")]
    UserInfo,
    /// The URL has a query.
    #[error("the URL has a query")]
    Query,
    /// The URL has a fragment.
    #[error("the URL has a fragment")]
    Fragment,
    /// No token is configured.
    #[error("no token configured")]
    NoToken,
    /// The token cannot be read.
    #[error(transparent)]
    Token(#[from] TokenSourceError),
    /// The additional root certificates are not PEM, or one of them is not a certificate.
    #[error("the root certificates are not PEM certificates")]
    InvalidRootCertificates,
    /// The system has no root certificates and none were added.
    #[error("the system has no root certificates and none were added")]
    NoRootCertificates,
    /// The URL is `https`, and no certificate can be read from `SSL_CERT_FILE` or `SSL_CERT_DIR`. The
    /// message names the variable, the path and the reason.
    #[error("{0}")]
    UnusableCertificates(String),
    /// The URL is `https`, the feature `rustls` is off, and no transport is configured.
    #[error("https needs the feature `rustls` or a custom transport")]
    NoTls,
}

impl From<TransportConfigError> for ClientConfigError {
    fn from(error: TransportConfigError) -> Self {
        match error {
            TransportConfigError::InvalidUrl => Self::InvalidUrl,
            TransportConfigError::Insecure => Self::Insecure,
            TransportConfigError::UserInfo => Self::UserInfo,
            TransportConfigError::Fragment => Self::Fragment,
            #[cfg(feature = "rustls")]
            TransportConfigError::InvalidRootCertificates => Self::InvalidRootCertificates,
            #[cfg(feature = "rustls")]
            TransportConfigError::NoRootCertificates => Self::NoRootCertificates,
            #[cfg(feature = "rustls")]
            TransportConfigError::UnusableCertificates(reason) => {
                Self::UnusableCertificates(reason)
            }
            #[cfg(not(feature = "rustls"))]
            TransportConfigError::NoTls => Self::NoTls,
        }
    }
}
