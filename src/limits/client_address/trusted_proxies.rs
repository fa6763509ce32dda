use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

/// The networks of proxies whose header with client addresses is trusted.
///
/// Clones share the list.
///
/// ```
/// use tower_service_token::limits::TrustedProxies;
///
/// let proxies: TrustedProxies = "10.0.0.0/8, 2001:db8::/32, 192.0.2.1".parse()?;
/// assert!(proxies.contains("10.1.2.3".parse()?));
/// assert!(!proxies.contains("192.0.2.2".parse()?));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Creates a list of networks in CIDR notation, such as `10.0.0.0/8`, and of single addresses.
    ///
    /// # Errors
    ///
    /// Returns an error if one of them is neither.
    pub fn new<I>(networks: I) -> Result<Self, TrustedProxiesError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let networks = networks.into_iter().zip(1..);
        let networks = networks.map(|(network, position)| {
            let network = parse(network.as_ref().trim());
            network.ok_or(TrustedProxiesError { position })
        });
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// Returns whether one of the networks contains this address. IPv4-mapped addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Returns whether the list is empty, as by default.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Parses a list that is separated by commas.
impl FromStr for TrustedProxies {
    type Err = TrustedProxiesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text.split(','))
    }
}

/// Joins lists into one.
impl FromIterator<Self> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = Self>>(lists: I) -> Self {
        let networks = lists.into_iter().flat_map(|list| list.0.to_vec());
        Self(networks.collect())
    }
}

fn parse(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok();
    let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network.map(canonical)
}

/// Converts an IPv4-mapped network to IPv4, because addresses are compared as IPv4.
fn canonical(network: IpNet) -> IpNet {
    if let IpNet::V6(mapped) = network
        && let Some(address) = mapped.addr().to_ipv4_mapped()
        && let Some(prefix) = mapped.prefix_len().checked_sub(96)
        && let Ok(network) = Ipv4Net::new(address, prefix)
    {
        return network.into();
    }
    network
}

/// An entry of a list is neither a network nor an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {position} is neither an address nor a network such as 10.0.0.0/8")]
pub struct TrustedProxiesError {
    /// Counted from one.
    position: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(list: &str, address: &str) -> bool {
        let list: TrustedProxies = list.parse().expect(list);
        list.contains(address.parse().expect(address))
    }

    #[test]
    fn compares_mapped_addresses_and_networks_as_ipv4() {
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(contains("::ffff:10.0.0.0/104", "10.1.2.3"));
        assert!(contains("::ffff:10.0.0.1", "10.0.0.1"));
        assert!(!contains("::ffff:10.0.0.0/104", "11.1.2.3"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
    }

    #[test]
    fn ignores_host_bits_and_joins_lists() {
        assert!(contains("10.9.9.9/8", "10.1.2.3"));
        let lists = ["10.0.0.0/8", "2001:db8::/32,192.0.2.1"];
        let joined: TrustedProxies = lists.iter().filter_map(|list| list.parse().ok()).collect();
        let joined = |text: &str| joined.contains(text.parse().expect(text));
        assert!(joined("10.0.0.1") && joined("2001:db8::1") && joined("192.0.2.1"));
    }

    #[test]
    fn rejects_malformed_networks() {
        for list in ["", "10.0.0.0/33", "10.0.0.0/8,", "proxy", "10.0.0.0/8;::1"] {
            let error = list.parse::<TrustedProxies>().expect_err(list).to_string();
            assert!(error.contains("is neither an address nor"), "{error}");
        }
        assert!(TrustedProxies::new([""; 0]).is_ok_and(|list| list.is_empty()));
        let second = TrustedProxies::new(["::1", "x"]).expect_err("x");
        assert!(second.to_string().starts_with("entry 2 "), "{second}");
    }
}
