use crate::client::TokenSourceError;
use crate::transport::TransportConfigError;

/// A [`ServiceTokensClient`](super::ServiceTokensClient) cannot be built as configured.
///
/// It repeats no URL and no token: a URL may hold a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientConfigError {
    /// The URL is no absolute `http` or `https` URL with a host.
    #[error("the url is not an absolute http or https url")]
    InvalidUrl,
    /// The URL is `http` to another host than a loopback address or `localhost`, where the token
    /// could be read on the way.
    #[error("the url is not https; http is for 127.0.0.0/8, [::1] and localhost alone")]
    Insecure,
    /// The URL has a user name or password in it.
    #[error("the url holds a user name or password")]
    UserInfo,
    /// The URL has a query, which no call could keep.
    #[error("the url has a query")]
    Query,
    /// The URL has a fragment, which is never sent.
    #[error("the url has a fragment")]
    Fragment,
    /// No token was given to authenticate with.
    #[error("no token was given to authenticate with")]
    NoToken,
    /// The token to authenticate with could not be had.
    #[error(transparent)]
    Token(#[from] TokenSourceError),
    /// The added root certificates are no PEM, or one of them is no certificate.
    #[error("the root certificates are no pem of certificates")]
    InvalidRootCertificates,
    /// The system has no root certificates and none were added, so no server could be trusted.
    #[error("the system has no root certificates, and none were added")]
    NoRootCertificates,
    /// The URL is `https`, the feature `rustls` is off, and no transport of your own was given.
    #[error("https needs the feature `rustls` or a transport of your own")]
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
            TransportConfigError::NoTls => Self::NoTls,
        }
    }
}
