use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri};

use super::ticket::Ticket;
use crate::digest::TokenDigest;

/// The name of the query parameter.
const PARAMETER: &str = "ticket";

/// Where tickets are read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct TicketSources {
    pub(super) query: bool,
    pub(super) protocol: bool,
}

/// A ticket is presented twice, cannot be read, or is the only protocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl TicketSources {
    /// Removes the ticket from the request and returns its digest.
    pub(super) fn take(
        self,
        uri: &mut Uri,
        headers: &mut HeaderMap,
    ) -> Result<Option<TokenDigest>, Malformed> {
        let in_query = if self.query {
            take_from_query(uri)?
        } else {
            None
        };
        let in_protocols = if self.protocol {
            take_from_protocols(headers)?
        } else {
            None
        };
        match (in_query, in_protocols) {
            (Some(_), Some(_)) => Err(Malformed),
            (ticket, other) => Ok(ticket.or(other)),
        }
    }
}

fn take_from_query(uri: &mut Uri) -> Result<Option<TokenDigest>, Malformed> {
    let Some(query) = uri.query() else {
        return Ok(None);
    };
    let ticket = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name == PARAMETER).then(|| value.to_owned())
    };
    let presented: Vec<String> = query.split('&').filter_map(ticket).collect();
    let [text] = &presented[..] else {
        return if presented.is_empty() {
            Ok(None)
        } else {
            Err(Malformed)
        };
    };
    let rest: Vec<&str> = query
        .split('&')
        .filter(|pair| ticket(pair).is_none())
        .collect();
    let path = uri.path();
    let path_and_query = if rest.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", rest.join("&"))
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).map_err(|_| Malformed)?);
    *uri = Uri::from_parts(parts).map_err(|_| Malformed)?;
    Ticket::parse(text).map(Some).ok_or(Malformed)
}

fn take_from_protocols(headers: &mut HeaderMap) -> Result<Option<TokenDigest>, Malformed> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let (mut tickets, mut protocols) = (Vec::new(), Vec::new());
    for value in values {
        for protocol in value.to_str().map_err(|_| Malformed)?.split(',') {
            let protocol = protocol.trim_matches([' ', '\t']);
            if Ticket::is_marked(protocol) {
                tickets.push(Ticket::parse(protocol));
            } else if !protocol.is_empty() {
                protocols.push(protocol);
            }
        }
    }
    let [ticket] = &tickets[..] else {
        return if tickets.is_empty() {
            Ok(None)
        } else {
            Err(Malformed)
        };
    };
    // A browser fails a connection whose response selects none of the protocols it offered.
    if protocols.is_empty() {
        return Err(Malformed);
    }
    let ticket = ticket.ok_or(Malformed)?;
    let protocols = HeaderValue::try_from(protocols.join(", ")).map_err(|_| Malformed)?;
    headers.insert(SEC_WEBSOCKET_PROTOCOL, protocols);
    Ok(Some(ticket))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: TicketSources = TicketSources {
        query: true,
        protocol: true,
    };
    const TICKET: &str = "svcticket-0123456789abcdefghijABCDEFGHIJ01";

    /// Returns the result for these protocols, the URI and the protocols that are left.
    fn take(
        uri: &str,
        protocols: &[&str],
    ) -> (
        Result<Option<TokenDigest>, Malformed>,
        String,
        Option<String>,
    ) {
        let mut uri: Uri = uri.replace("TICKET", TICKET).parse().expect("a URI");
        let mut headers = HeaderMap::new();
        for protocol in protocols {
            let value = protocol.replace("TICKET", TICKET);
            let value = HeaderValue::try_from(value).expect("a header value");
            headers.append(SEC_WEBSOCKET_PROTOCOL, value);
        }
        let taken = ANY.take(&mut uri, &mut headers);
        let left = headers.get(SEC_WEBSOCKET_PROTOCOL);
        let left = left.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        (taken, uri.to_string(), left)
    }

    #[test]
    fn takes_the_ticket_out_of_the_uri() {
        for (uri, left) in [
            ("/events?ticket=TICKET", "/events"),
            ("/events?ticket=TICKET&a=1&b", "/events?a=1&b"),
            ("/events?a=%20&ticket=TICKET", "/events?a=%20"),
            (
                "http://a.example/x?a=1&ticket=TICKET&b=2",
                "http://a.example/x?a=1&b=2",
            ),
        ] {
            let (taken, uri, _) = take(uri, &[]);
            assert_eq!(taken, Ok(Some(TokenDigest::of(TICKET))), "{uri}");
            assert_eq!(uri, left);
        }
    }

    #[test]
    fn takes_the_ticket_out_of_the_protocols() {
        for (protocols, left) in [
            (&["chat, TICKET"][..], "chat"),
            (&["TICKET,chat"], "chat"),
            (&["chat", "TICKET", "superchat"], "chat, superchat"),
            (&["\tchat ,TICKET , v2.chat"], "chat, v2.chat"),
        ] {
            let (taken, _, protocols) = take("/ws", protocols);
            assert_eq!(taken, Ok(Some(TokenDigest::of(TICKET))));
            assert_eq!(protocols.as_deref(), Some(left));
        }
    }

    #[test]
    fn requests_without_a_ticket_stay_as_they_are() {
        for uri in ["/ws", "/ws?", "/ws?tickets=1&a=ticket", "/ws?%74icket=1"] {
            let (taken, left, protocols) = take(uri, &["chat ,  v2"]);
            assert_eq!(taken, Ok(None));
            assert_eq!(left, uri);
            assert_eq!(protocols.as_deref(), Some("chat ,  v2"));
        }
    }

    #[test]
    fn rejects_what_cannot_be_one_ticket() {
        for (uri, protocols) in [
            ("/ws?ticket=TICKET&ticket=TICKET", &[][..]),
            ("/ws?ticket=TICKET", &["chat, TICKET"]),
            ("/ws?ticket", &[]),
            ("/ws?ticket=", &[]),
            ("/ws?ticket=TICKETx", &[]),
            ("/ws?ticket=svctok-0123456789_0123456789", &[]),
            ("/ws?ticket=TICKET%20", &[]),
            ("/ws", &["TICKET"]),
            ("/ws", &["chat, TICKET, TICKET"]),
            ("/ws", &["chat", "TICKET", "TICKET"]),
            ("/ws", &["chat, svcticket-"]),
            ("/ws", &["chat, TICKETx"]),
            ("/ws", &["chat, T\u{e9}"]),
        ] {
            assert_eq!(
                take(uri, protocols).0,
                Err(Malformed),
                "{uri} {protocols:?}"
            );
        }
    }
}
