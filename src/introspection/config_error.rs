use crate::transport::TransportConfigError;

/// The settings of an [`IntrospectionStore`](super::IntrospectionStore) are invalid.
///
/// The message contains no URL, client id, secret or key, because a URL may hold a password, and so may
/// a value that was set in the wrong place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IntrospectionConfigError {
    /// The URL of the endpoint or the issuer is not an absolute `http` or `https` URL with a host.
    #[error("the url is not an absolute http or https url")]
    InvalidUrl,
    /// The URL is `http`, which is allowed only for a loopback address, and only if enabled.
    #[error("the url is not https; http is only for 127.0.0.0/8, [::1] and localhost, if enabled")]
    Insecure,
    /// The URL has a user name or password.
    #[error("the url has a user name or password")]
    UserInfo,
    /// The URL has a fragment, which is never sent.
    #[error("the url has a fragment")]
    Fragment,
    /// The issuer has a query, which RFC 8414, section 2, forbids.
    #[error("the issuer has a query")]
    IssuerQuery,
    /// The client id is empty.
    #[error("the client id is empty")]
    EmptyClientId,
    /// The client secret is empty.
    #[error("the client secret is empty")]
    EmptyClientSecret,
    /// The client id has a colon, which separates it from the secret in raw Basic authentication.
    #[error("the client id has a colon, which basic authentication cannot send unencoded")]
    ColonInClientId,
    /// The bearer token is empty, or has a byte that is not visible ASCII.
    #[error("the bearer token is not visible ascii")]
    InvalidBearerToken,
    /// The private key is not a valid PEM.
    #[error(
        "the private key is not an unencrypted pkcs#8 pem; \
         convert it with `openssl pkcs8 -topk8 -nocrypt -in key.pem -out pkcs8.pem`"
    )]
    InvalidKey,
    /// The private key is valid, but not for its algorithm.
    #[error("the private key is unsuitable: es256 needs p-256, rs256 rsa of 2048 to 4096 bits")]
    UnsuitableKey,
    /// A client assertion needs an audience, and neither it nor an issuer is configured.
    #[error("the client assertion has no audience: set one, or the issuer")]
    MissingAssertionAudience,
    /// The lifetime of the client assertion is less than 1 s or more than 1 h.
    #[error("the client assertion's lifetime is not between 1 s and 1 h")]
    InvalidAssertionLifetime,
    /// The added root certificates are not PEM, or one of them is not a certificate.
    #[error("the root certificates are not PEM certificates")]
    InvalidRootCertificates,
    /// The system has no root certificates and none were added, so no server could be trusted.
    #[error("the system has no root certificates, and none were added")]
    NoRootCertificates,
    /// The URL is `https`, and no certificate can be read from `SSL_CERT_FILE` or `SSL_CERT_DIR`. The
    /// message names the variable, the path and the reason.
    #[error("{0}")]
    UnusableCertificates(String),
    /// The URL is `https`, the feature `rustls` is off, and no custom transport was set.
    #[error("https needs the feature `rustls` or a custom transport")]
    NoTls,
}

impl From<TransportConfigError> for IntrospectionConfigError {
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
