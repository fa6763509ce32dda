use std::ops::ControlFlow;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{ClientAddress, TrustedProxies, forwarded, node};

/// How the address of a client is found behind proxies.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    pub(super) proxies: TrustedProxies,
    pub(super) header: HeaderName,
}

impl Resolver {
    /// Returns the right-most address that is no trusted proxy's: the peer, or one that a trusted
    /// proxy appended.
    ///
    /// What stands to the left of it may be forged, and is not read. If an entry to be read is not
    /// an address, the peer is the client.
    pub(super) fn resolve(&self, peer: ClientAddress, headers: &HeaderMap) -> ClientAddress {
        if !self.proxies.contains(peer.ip()) {
            return peer;
        }
        let mut leftmost = peer;
        let mut step = |entry: Option<std::net::IpAddr>| match entry.map(ClientAddress::new) {
            None => ControlFlow::Break(peer),
            Some(address) if self.proxies.contains(address.ip()) => {
                leftmost = address;
                ControlFlow::Continue(())
            }
            Some(client) => ControlFlow::Break(client),
        };
        let values = headers.get_all(&self.header).iter().rev();
        let walked = values
            .map(|value| self.entries(value, &mut step))
            .find(ControlFlow::is_break);
        match walked {
            Some(ControlFlow::Break(client)) => client,
            _ => leftmost,
        }
    }

    /// Calls `step` with the entries of one header line, right to left.
    fn entries(
        &self,
        value: &HeaderValue,
        mut step: impl FnMut(Option<std::net::IpAddr>) -> ControlFlow<ClientAddress>,
    ) -> ControlFlow<ClientAddress> {
        if self.header == FORWARDED {
            let entries = forwarded::parse(value.as_bytes());
            let entries = entries.unwrap_or_else(|| vec![None]);
            return entries.into_iter().rev().try_for_each(step);
        }
        let entries = value.as_bytes().rsplit(|byte| *byte == b',');
        let mut entries = entries.map(<[u8]>::trim_ascii);
        entries.try_for_each(|entry| match entry {
            b"" => ControlFlow::Continue(()),
            entry => step(std::str::from_utf8(entry).ok().and_then(node::parse)),
        })
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
            // The peer is no proxy: its headers count for nothing.
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
            // A client cannot choose its address by what it sends itself.
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
            // An open quote reaches no further than its line.
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
