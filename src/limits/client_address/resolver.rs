use std::net::IpAddr;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::forwarded::{self, parse_node};
use super::{ClientAddress, TrustedProxies};

/// Finds the address of a client behind proxies.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    pub(super) proxies: TrustedProxies,
    pub(super) header: HeaderName,
}

impl Resolver {
    /// Returns the right-most address that is not a trusted proxy: the peer, or an address that a
    /// trusted proxy appended.
    ///
    /// Entries to the left of it may be forged and are not read. If an entry that must be read is
    /// not an address, the peer is the client.
    pub(super) fn resolve(&self, peer: ClientAddress, headers: &HeaderMap) -> ClientAddress {
        if !self.proxies.contains(peer.ip()) {
            return peer;
        }
        let mut leftmost = peer;
        let values = headers.get_all(&self.header).iter().rev();
        for entry in values.flat_map(|value| self.entries(value)) {
            match entry.map(ClientAddress::new) {
                Some(address) if self.proxies.contains(address.ip()) => leftmost = address,
                Some(client) => return client,
                None => return peer,
            }
        }
        leftmost
    }

    /// Returns the entries of one header line, right to left. An entry that is not an address is
    /// `None`.
    fn entries(&self, value: &HeaderValue) -> impl Iterator<Item = Option<IpAddr>> {
        let forwarded = (self.header == FORWARDED).then(|| {
            let entries = forwarded::parse(value.as_bytes());
            entries.unwrap_or_else(|| vec![None]).into_iter().rev()
        });
        let list = forwarded.is_none().then(|| {
            let entries = value.as_bytes().rsplit(|byte| *byte == b',');
            let entries = entries.map(<[u8]>::trim_ascii);
            let entries = entries.filter(|entry| !entry.is_empty());
            entries.map(|entry| std::str::from_utf8(entry).ok().and_then(parse_node))
        });
        forwarded
            .into_iter()
            .flatten()
            .chain(list.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X_FORWARDED_FOR: &str = "x-forwarded-for";

    /// Returns the client of a request with these header lines, of proxies in `10.0.0.0/8` and
    /// `2001:db8:a::/48`.
    fn client(peer: &str, header: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        let name: HeaderName = header.parse().expect(header);
        for line in lines {
            headers.append(&name, HeaderValue::from_bytes(line.as_bytes()).expect(line));
        }
        let proxies = "10.0.0.0/8,2001:db8:a::/48".parse().expect("networks");
        let resolver = Resolver {
            proxies,
            header: name,
        };
        let peer = ClientAddress::new(peer.parse().expect(peer));
        resolver.resolve(peer, &headers).to_string()
    }

    #[test]
    fn returns_the_right_most_untrusted_address() {
        for (peer, lines, expected) in [
            // The peer is not a proxy, so its headers are ignored.
            ("192.0.2.1", &["198.51.100.1"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            ("::ffff:10.0.0.1", &["::ffff:192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", &["198.51.100.1, 192.0.2.1"], "192.0.2.1"),
            (
                "10.0.0.1",
                &["198.51.100.1, 192.0.2.1, 10.0.0.2"],
                "192.0.2.1",
            ),
            (
                "10.0.0.1",
                &["192.0.2.1:4711, [2001:db8:a::1]:80"],
                "192.0.2.1",
            ),
            // Lines are joined in order.
            ("10.0.0.1", &["198.51.100.1", "192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", &["192.0.2.1", "10.0.0.3,10.0.0.2"], "192.0.2.1"),
            // All are trusted.
            ("10.0.0.1", &["10.0.0.4, 10.0.0.3", "10.0.0.2"], "10.0.0.4"),
            (
                "10.0.0.1",
                &["192.0.2.1,", "", " , 10.0.0.2 ,"],
                "192.0.2.1",
            ),
        ] {
            let found = client(peer, X_FORWARDED_FOR, lines);
            assert_eq!(found, expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn falls_back_to_the_peer_on_malformed_entries() {
        for (lines, expected) in [
            (&["unknown"][..], "10.0.0.1"),
            (&["192.0.2.1, x, 10.0.0.2"], "10.0.0.1"),
            (&["192.0.2.1 10.0.0.2"], "10.0.0.1"),
            (&["caf\u{e9}"], "10.0.0.1"),
            // Entries that the client sent do not change its address.
            (&["unknown, 192.0.2.1"], "192.0.2.1"),
            (&["\"", "192.0.2.1"], "192.0.2.1"),
        ] {
            assert_eq!(
                client("10.0.0.1", X_FORWARDED_FOR, lines),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn reads_forwarded_by_its_own_syntax() {
        for (lines, expected) in [
            (
                &["for=198.51.100.1, for=192.0.2.1;proto=https"][..],
                "192.0.2.1",
            ),
            (&["for=\"[2001:db8::1]:4711\", for=10.0.0.2"], "2001:db8::1"),
            (
                &["for=192.0.2.1", "for=10.0.0.3, by=x;for=10.0.0.2"],
                "192.0.2.1",
            ),
            (&["for=_hidden, for=10.0.0.2"], "10.0.0.1"),
            (&["for=192.0.2.1, proto=https"], "10.0.0.1"),
            (&["for=\"192.0.2.1, for=192.0.2.2"], "10.0.0.1"),
            // An open quote ends with its line.
            (&["for=\"192.0.2.1", "for=192.0.2.2"], "192.0.2.2"),
            (&["192.0.2.1"], "10.0.0.1"),
        ] {
            assert_eq!(
                client("10.0.0.1", "forwarded", lines),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn reads_one_header_only() {
        assert_eq!(client("10.0.0.1", "x-real-ip", &["192.0.2.1"]), "192.0.2.1");
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED, HeaderValue::from_static("for=192.0.2.1"));
        headers.insert("x-real-ip", HeaderValue::from_static("192.0.2.2"));
        let resolver = Resolver {
            proxies: "10.0.0.1".parse().expect("an address"),
            header: HeaderName::from_static(X_FORWARDED_FOR),
        };
        let peer = ClientAddress::new([10, 0, 0, 1].into());
        assert_eq!(resolver.resolve(peer, &headers), peer);
    }
}
