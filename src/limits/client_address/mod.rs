mod forwarded;
mod layer;
mod resolver;
mod trusted_proxies;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::Extensions;

pub use self::layer::{ClientAddressLayer, ClientAddressService};
pub use self::trusted_proxies::{TrustedProxies, TrustedProxiesError};

/// The address of the client that sent a request.
///
/// [`ClientAddressLayer`] inserts it into the extensions of each request. Failure budgets, audit
/// events and log events use it.
///
/// An IPv4-mapped IPv6 address, such as `::ffff:192.0.2.1`, becomes the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// Creates the client address from an IP address.
    pub fn new(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }

    /// Returns the IP address.
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// Returns the address that identifies a client: an IPv4 address, or the /64 network of an IPv6
    /// address, because a client can choose the other 64 bits.
    ///
    /// ```
    /// use std::net::IpAddr;
    /// use tower_service_token::limits::ClientAddress;
    ///
    /// let network = |text: &str| text.parse().map(|ip| ClientAddress::new(ip).network());
    /// assert_eq!(network("2001:db8:1:2:3::4")?, "2001:db8:1:2::".parse::<IpAddr>()?);
    /// assert_eq!(network("192.0.2.1")?, "192.0.2.1".parse::<IpAddr>()?);
    /// # Ok::<_, std::net::AddrParseError>(())
    /// ```
    pub fn network(self) -> IpAddr {
        match self.0 {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
        }
    }

    /// Returns the address that a [`ClientAddressLayer`] inserted, or else the address of the peer of
    /// the connection. Returns `None` if neither is known.
    pub fn from_extensions(extensions: &Extensions) -> Option<Self> {
        let found = extensions.get::<Self>().copied();
        found.or_else(|| peer(extensions))
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The address of the connection's peer, as a request extension.
///
/// With hyper and tonic, the application inserts it. axum inserts `ConnectInfo<SocketAddr>`, which is
/// used as well with the feature `api`. A `PeerAddress` takes precedence.
///
/// ```
/// use std::net::SocketAddr;
/// use tower_service_token::limits::{ClientAddress, PeerAddress};
///
/// # fn serve(peer: SocketAddr) {
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(PeerAddress(peer));
/// assert!(ClientAddress::from_extensions(request.extensions()).is_some());
/// # }
/// # serve(([192, 0, 2, 1], 4000).into());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress(pub SocketAddr);

fn peer(extensions: &Extensions) -> Option<ClientAddress> {
    let own = extensions.get::<PeerAddress>().map(|peer| peer.0);
    #[cfg(feature = "api")]
    let own = own.or_else(|| {
        let connected = extensions.get::<axum::extract::ConnectInfo<SocketAddr>>();
        connected.map(|connected| connected.0)
    });
    own.map(|peer| ClientAddress::new(peer.ip()))
}
