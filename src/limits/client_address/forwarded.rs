use std::net::IpAddr;

use super::node;

/// Parses one value of the `Forwarded` header (RFC 7239) and returns the address of each element
/// in its `for` parameter, left to right.
///
/// The address is `None` if the element has no `for`, or an obfuscated one. Returns `None` if the
/// value is malformed.
pub(super) fn parse(value: &[u8]) -> Option<Vec<Option<IpAddr>>> {
    let mut rest = std::str::from_utf8(value).ok()?;
    let mut addresses = Vec::new();
    loop {
        let element;
        (element, rest) = parse_element(rest)?;
        match element {
            Element::Empty => {}
            Element::WithoutFor => addresses.push(None),
            Element::For(text) => addresses.push(node::parse(&text)),
        }
        if rest.is_empty() {
            return Some(addresses);
        }
        rest = &rest[1..];
    }
}

enum Element {
    Empty,
    WithoutFor,
    For(String),
}

/// Parses up to the next comma outside quotes, or to the end; the rest begins with that comma.
fn parse_element(mut rest: &str) -> Option<(Element, &str)> {
    let mut element = Element::Empty;
    loop {
        rest = trim_start(rest);
        match rest.as_bytes().first() {
            None | Some(b',') => return Some((element, rest)),
            Some(b';') => {
                rest = &rest[1..];
                continue;
            }
            Some(_) => {}
        }
        let (name, after) = rest.split_once('=')?;
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return None;
        }
        let (value, after) = parse_value(after)?;
        element = match (element, name.eq_ignore_ascii_case("for")) {
            (Element::For(_), true) => return None,
            (_, true) => Element::For(value),
            (Element::Empty, false) => Element::WithoutFor,
            (element, false) => element,
        };
        rest = trim_start(after);
        if !matches!(rest.as_bytes().first(), None | Some(b',' | b';')) {
            return None;
        }
    }
}

/// Parses a quoted string, or characters up to a delimiter: addresses with a port occur without
/// the quotes that they need.
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

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
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
}
