use std::net::{IpAddr, Ipv4Addr};

use crate::token::TokenId;

/// Whom failures are put down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::api) enum Client {
    /// The holder of a token, who asks about others.
    Holder(TokenId),
    Address(Ipv4Addr),
    /// The first half of an IPv6 address: the rest is its user's to choose.
    Network([u16; 4]),
    /// Anyone whose address is not known.
    Unknown,
    /// Anyone for whom there is no place.
    Newcomer,
}

impl Client {
    /// Whoever has this address.
    pub(super) fn at(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::Address(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::Network([a, b, c, d])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_counts_by_its_network_and_a_mapped_one_as_ipv4() {
        let client = |text: &str| Client::at(text.parse().expect("an address"));
        assert_eq!(client("2001:db8:1:2::3"), client("2001:db8:1:2:ffff::9"));
        assert_ne!(client("2001:db8:1:2::3"), client("2001:db8:1:3::3"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
    }
}
