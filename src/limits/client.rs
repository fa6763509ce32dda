use std::net::{IpAddr, Ipv4Addr};

use http::Extensions;

use super::ClientAddress;
use crate::token::TokenId;

/// The client that failures count against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// The holder of a token, who introspects others.
    #[cfg_attr(
        not(feature = "api"),
        expect(dead_code, reason = "only endpoints have it")
    )]
    Holder(TokenId),
    Address(Ipv4Addr),
    /// An IPv6 /64 network.
    Network([u16; 4]),
    /// Every client whose address is not known.
    Unknown,
}

impl Client {
    fn at(address: ClientAddress) -> Self {
        match address.network() {
            IpAddr::V4(address) => Self::Address(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::Network([a, b, c, d])
            }
        }
    }
}

/// Where a request comes from: the address, for logs and audit, and the client that its failures
/// count against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestOrigin {
    pub(crate) address: Option<ClientAddress>,
    pub(crate) client: Client,
}

impl RequestOrigin {
    pub(crate) fn from_extensions(extensions: &Extensions) -> Self {
        let address = ClientAddress::from_extensions(extensions);
        let client = address.map_or(Client::Unknown, Client::at);
        Self { address, client }
    }

    /// Counts failures against the holder of this token instead of the address.
    #[cfg(feature = "api")]
    pub(crate) fn with_holder(self, id: TokenId) -> Self {
        let client = Client::Holder(id);
        Self { client, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_clients_are_64_networks_and_mapped_addresses_are_ipv4() {
        let client = |text: &str| Client::at(ClientAddress::new(text.parse().expect(text)));
        assert_eq!(client("2001:db8:1:2::3"), client("2001:db8:1:2:ffff::9"));
        assert_ne!(client("2001:db8:1:2::3"), client("2001:db8:1:3::3"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
    }
}
