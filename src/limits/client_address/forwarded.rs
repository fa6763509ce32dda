use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::header::is_token_char;

/// Parses one value of the `Forwarded` header (RFC 7239) and returns the address of each element
/// in its `for` parameter, left to right.
///
/// The address is `None` if the element has no `for`, or an obfuscated one. Returns `None` if the
/// value is malformed.
pub(super) fn parse(value: &[u8]) -> Option<Vec<Option<IpAddr>>> {
    let mut rest = std::str::from_utf8(value).ok()?;
    let mut addresses = Vec::new();
    while !rest.is_empty() {
        let (parameters, after) = parse_element(rest)?;
        let is_for = |(name, _): &&(&str, String)| name.eq_ignore_ascii_case("for");
        let mut nodes = parameters.iter().filter(is_for);
        match (nodes.next(), nodes.next()) {
            _ if parameters.is_empty() => {}
            (node, None) => addresses.push(node.and_then(|(_, node)| parse_node(node))),
            _ => return None,
        }
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some(addresses)
}

/// Parses the parameters of one element. The rest is empty or begins with the comma after it.
fn parse_element(mut rest: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut parameters = Vec::new();
    loop {
        rest = trim_start(rest);
        if rest.is_empty() || rest.starts_with(',') {
            return Some((parameters, rest));
        }
        if let Some(after) = rest.strip_prefix(';') {
            rest = after;
            continue;
        }
        let (name, after) = rest.split_once('=')?;
        if name.is_empty() || !name.bytes().all(is_token_char) {
            return None;
        }
        let (value, after) = parse_value(after)?;
        parameters.push((name, value));
        rest = trim_start(after);
        if !rest.is_empty() && !rest.starts_with([',', ';']) {
            return None;
        }
    }
}

/// Parses a quoted string, or characters up to a delimiter, because some proxies omit the quotes that
/// an address with a port needs.
fn parse_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let is_delimiter = |c: char| matches!(c, ',' | ';' | '"' | ' ' | '\t');
        let end = text.find(is_delimiter).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (!value.is_empty()).then(|| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

fn trim_start(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// Parses an address as proxies write it: an IPv4 address with or without a port, an IPv6 address
/// with or without brackets, a port only after brackets.
///
/// A port may be obfuscated, as RFC 7239 §6.3 allows. Returns `None` for anything else, obfuscated
/// addresses and `unknown` included.
pub(super) fn parse_node(text: &str) -> Option<IpAddr> {
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

    fn addresses(value: &str) -> Option<Vec<String>> {
        let shown = |address: Option<IpAddr>| address.map_or("-".to_owned(), |it| it.to_string());
        let addresses = parse(value.as_bytes())?;
        Some(addresses.into_iter().map(shown).collect())
    }

    #[test]
    fn parses_the_rfc_7239_examples() {
        for (value, expected) in [
            (r#"for="_gazonk""#, &["-"][..]),
            (r#"For="[2001:db8:cafe::17]:4711""#, &["2001:db8:cafe::17"]),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", &["192.0.2.60"]),
            (
                "for=192.0.2.43, for=198.51.100.17",
                &["192.0.2.43", "198.51.100.17"],
            ),
            ("for=_hidden, for=_SEVKISEK", &["-", "-"]),
            ("for=unknown", &["-"]),
        ] {
            assert_eq!(addresses(value).expect(value), expected, "{value}");
        }
    }

    #[test]
    fn ignores_delimiters_within_quotes() {
        for (value, expected) in [
            (r#"by="a,for=10.0.0.1;";for=192.0.2.1"#, &["192.0.2.1"][..]),
            (r#"by="a\",for=10.0.0.1";for="192.0.2.1""#, &["192.0.2.1"]),
            (r#"for="192.0.2\.1""#, &["192.0.2.1"]),
            ("for=192.0.2.1:80", &["192.0.2.1"]),
            ("by=x;proto=https", &["-"]),
            (" , ;for=192.0.2.1; ,", &["192.0.2.1"]),
            ("", &[]),
        ] {
            assert_eq!(addresses(value).expect(value), expected, "{value}");
        }
    }

    #[test]
    fn rejects_malformed_values() {
        for value in [
            "192.0.2.1",
            "for",
            "for=",
            "=192.0.2.1",
            r#"for="192.0.2.1"#,
            r#"for="192.0.2.1\"#,
            r#"for="192.0.2.1"x"#,
            "for=192.0.2.1 for=192.0.2.2",
            "for=192.0.2.1;for=192.0.2.2",
            "f or=192.0.2.1",
        ] {
            assert_eq!(addresses(value), None, "{value}");
        }
        assert_eq!(parse(b"for=\xff"), None);
    }

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
            assert_eq!(parse_node(text), Some(address), "{text}");
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
            assert_eq!(parse_node(text), None, "{text:?}");
        }
    }
}
