use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Parses an address as proxies write it: an IPv4 address with or without a port, an IPv6 address
/// with or without brackets, a port only after brackets.
///
/// A port may be obfuscated, as RFC 7239 §6.3 allows. Returns `None` for anything else, obfuscated
/// addresses and `unknown` included.
pub(super) fn parse(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let address = host.parse::<Ipv6Addr>().ok()?;
        let has_port = rest.strip_prefix(':').is_some_and(is_port);
        return (rest.is_empty() || has_port).then(|| IpAddr::from(address).to_canonical());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (host, port) = text.split_once(':')?;
    let address = host.parse::<Ipv4Addr>().ok()?;
    is_port(port).then_some(address.into())
}

fn is_port(text: &str) -> bool {
    let rest = text.strip_prefix('_');
    let obfuscated = rest.is_some_and(|rest| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !rest.is_empty() && rest.bytes().all(is_allowed)
    });
    obfuscated || (text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_with_and_without_ports() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("192.0.2.1:_x-1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:65535", "2001:db8::1"),
            ("[2001:db8::1]:_p", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(parse(text), Some(address), "{text}");
        }
    }

    #[test]
    fn rejects_everything_else() {
        for text in [
            "",
            "unknown",
            "_hidden",
            "localhost",
            "192.0.2.1:",
            "192.0.2.1:65536",
            "192.0.2.1:+80",
            "192.0.2.1:_",
            "192.0.2",
            "192.0.2.1 ",
            "[192.0.2.1]",
            "[2001:db8::1",
            "[2001:db8::1]80",
            "[2001:db8::1]:",
            "2001:db8::1%eth0",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
