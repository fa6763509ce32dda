use std::net::IpAddr;

use http::Extensions;

use super::ClientAddress;
use crate::token::TokenId;

/// The client that a failure counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// The holder of a token, who introspects other tokens.
    #[cfg_attr(
        not(feature = "api"),
        expect(dead_code, reason = "only endpoints have it")
    )]
    Holder(TokenId),
    /// An IPv4 address, or an IPv6 /64 network by its first address.
    Network(IpAddr),
    /// All clients whose address is unknown.
    Unknown,
}

/// The origin of a request: the address, for logs and audit events, and the client that failures
/// count against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestOrigin {
    pub(crate) address: Option<ClientAddress>,
    pub(crate) client: Client,
}

impl RequestOrigin {
    pub(crate) fn from_extensions(extensions: &Extensions) -> Self {
        let address = ClientAddress::from_extensions(extensions);
        let network = address.map(ClientAddress::network);
        let client = network.map_or(Client::Unknown, Client::Network);
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
        let client = |text: &str| {
            let mut extensions = Extensions::new();
            extensions.insert(ClientAddress::new(text.parse().expect(text)));
            RequestOrigin::from_extensions(&extensions).client
        };
        assert_eq!(client("2001:db8:1:2::3"), client("2001:db8:1:2:ffff::9"));
        assert_ne!(client("2001:db8:1:2::3"), client("2001:db8:1:3::3"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
    }
}
