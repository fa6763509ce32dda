/// A URL may not be asked, or the standard client cannot be made.
///
/// It repeats nothing: a URL may hold a password, and so may what was put in the wrong place.
/// Whoever builds something over a transport tells it as an error of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransportConfigError {
    /// It is no absolute `http` or `https` URL with a host.
    InvalidUrl,
    /// It is `http`, and leads to where that was not allowed.
    Insecure,
    /// It has a user name or password in it.
    UserInfo,
    /// It has a fragment, which is never sent.
    Fragment,
    /// The added root certificates are no PEM, or one of them is no certificate.
    #[cfg(feature = "rustls")]
    InvalidRootCertificates,
    /// The system has no root certificates and none were added.
    #[cfg(feature = "rustls")]
    NoRootCertificates,
    /// It is `https`, and the transport does not speak that.
    NoTls,
}
