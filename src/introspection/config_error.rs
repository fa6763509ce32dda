use crate::transport::TransportConfigError;

/// An [`IntrospectionStore`](super::IntrospectionStore) cannot be built as configured.
///
/// It repeats no URL, client id, secret or key: a URL may hold a password, and so may what was put
/// in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IntrospectionConfigError {
    /// The URL of the endpoint or the issuer is no absolute `http` or `https` URL with a host.
    #[error("the url is not an absolute http or https url")]
    InvalidUrl,
    /// The URL is `http`, which is only for a loopback address, and only when it was allowed.
    #[error(
        "the url is not https; http is for 127.0.0.0/8, [::1] and localhost alone, when allowed"
    )]
    Insecure,
    /// The URL has a user name or password in it.
    #[error("the url holds a user name or password")]
    UserInfo,
    /// The URL has a fragment, which is never sent.
    #[error("the url has a fragment")]
    Fragment,
    /// An issuer has a query, which RFC 8414, section 2, forbids.
    #[error("the issuer has a query")]
    IssuerQuery,
    /// The client id is empty.
    #[error("the client id is empty")]
    EmptyClientId,
    /// The client secret is empty.
    #[error("the client secret is empty")]
    EmptyClientSecret,
    /// The client id has a colon, which raw Basic authentication cannot tell from the end of it.
    #[error("the client id has a colon, which basic authentication cannot send unencoded")]
    ColonInClientId,
    /// The bearer token is empty, or has a byte that is not visible ASCII.
    #[error("the bearer token is not visible ascii")]
    InvalidBearerToken,
    /// The private key is no PEM that can be read.
    #[error(
        "the private key is no unencrypted pkcs#8 pem; \
         `openssl pkcs8 -topk8 -nocrypt -in key.pem -out pkcs8.pem` makes one"
    )]
    InvalidKey,
    /// The private key was read, but is not one of its algorithm.
    #[error(
        "the private key does not fit: es256 takes a p-256 key, rs256 rsa of 2048 to 4096 bits"
    )]
    UnsuitableKey,
    /// A client assertion needs an audience, and neither it nor an issuer is configured.
    #[error("the client assertion has no audience: configure one, or the issuer")]
    MissingAssertionAudience,
    /// A client assertion would be good for less than a second, or for more than an hour.
    #[error("the client assertion's lifetime is not between a second and an hour")]
    InvalidAssertionLifetime,
    /// The added root certificates are no PEM, or one of them is no certificate.
    #[error("the root certificates are no pem of certificates")]
    InvalidRootCertificates,
    /// The system has no root certificates and none were added, so no server could be trusted.
    #[error("the system has no root certificates, and none were added")]
    NoRootCertificates,
    /// The URL is `https`, the feature `rustls` is off, and no transport of your own was given.
    #[error("https needs the feature `rustls` or a transport of your own")]
    NoTls,
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
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
            TransportConfigError::NoTls => Self::NoTls,
        }
    }
}
