use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

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

/// A ticket is presented twice, cannot be read, is the only protocol, or is where none is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl TicketSources {
    /// Removes the ticket from the request and returns its digest.
    ///
    /// What is left goes to the inner service, which may log it. So a text that may be a ticket is an
    /// error if it is in another place.
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
            _ if has_ticket(uri, headers) => Err(Malformed),
            (ticket, other) => Ok(ticket.or(other)),
        }
    }
}

/// Returns whether a ticket may be anywhere in the URI or the protocols.
fn has_ticket(uri: &Uri, headers: &HeaderMap) -> bool {
    let authority = uri.authority().map(Authority::as_str);
    let texts = [authority, Some(uri.path()), uri.query()];
    let mut texts = texts.into_iter().flatten().map(str::as_bytes);
    let protocols = headers.get_all(SEC_WEBSOCKET_PROTOCOL);
    texts.any(Ticket::may_be_in) || protocols.iter().any(|it| Ticket::may_be_in(it.as_bytes()))
}

fn take_from_query(uri: &mut Uri) -> Result<Option<TokenDigest>, Malformed> {
    let pairs = uri.query().into_iter().flat_map(|query| query.split('&'));
    let (tickets, others): (Vec<&str>, Vec<&str>) = pairs.partition(|pair| {
        let (name, _) = pair.split_once('=').unwrap_or((pair, ""));
        // A handler that parses the query decodes the name, too.
        percent_decode_str(name).eq(PARAMETER.bytes())
    });
    let [presented] = tickets[..] else {
        return if tickets.is_empty() {
            Ok(None)
        } else {
            Err(Malformed)
        };
    };
    let (_, value) = presented.split_once('=').unwrap_or((presented, ""));
    let text = percent_decode_str(value).decode_utf8_lossy();
    let ticket = Ticket::parse(&text).ok_or(Malformed)?;
    let path = uri.path();
    let path_and_query = if others.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", others.join("&"))
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).map_err(|_| Malformed)?);
    *uri = Uri::from_parts(parts).map_err(|_| Malformed)?;
    Ok(Some(ticket))
}

fn take_from_protocols(headers: &mut HeaderMap) -> Result<Option<TokenDigest>, Malformed> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let (mut tickets, mut protocols) = (Vec::new(), Vec::new());
    for value in values {
        for protocol in value.to_str().map_err(|_| Malformed)?.split(',') {
            let protocol = protocol.trim_matches([' ', '\t']);
            if Ticket::may_be_in(protocol.as_bytes()) {
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
        take_by(ANY, uri, protocols)
    }

    fn take_by(
        sources: TicketSources,
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
        let taken = sources.take(&mut uri, &mut headers);
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
            ("/events?%74icke%74=TICKET&a=1", "/events?a=1"),
            (
                "/events?a=1&ticket=%73vcticket%2D0123456789abcdefghijABCDEFGHIJ01",
                "/events?a=1",
            ),
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

    /// The inner service must not get a ticket that was not taken.
    #[test]
    fn rejects_a_ticket_where_none_is_read() {
        let query_only = TicketSources {
            query: true,
            protocol: false,
        };
        let protocol_only = TicketSources {
            query: false,
            protocol: true,
        };
        let neither = TicketSources {
            query: false,
            protocol: false,
        };
        for (sources, uri, protocols) in [
            (ANY, "/events?Ticket=TICKET", ""),
            (ANY, "/events?TICKET", ""),
            (ANY, "/events?x=1&y=TICKET", ""),
            (ANY, "/events?x=1;ticket=TICKET", ""),
            (ANY, "/events?x=%73vcticket%2d0123", ""),
            (ANY, "/events?ticket=TICKET&x=TICKET", ""),
            (ANY, "/events?ticket=TICKET&Ticket=TICKET", ""),
            (ANY, "/events?ticket=TICKET&%74icket=TICKET", ""),
            (ANY, "/events/TICKET", ""),
            (ANY, "/events/TICKET?ticket=TICKET", ""),
            (ANY, "http://TICKET@a.example/events", ""),
            (ANY, "/events", "chat, SVCTICKET-0123456789"),
            (ANY, "/events", "chat, x.TICKET"),
            (ANY, "/events?x=TICKET", "chat, TICKET"),
            (query_only, "/events", "chat, TICKET"),
            (query_only, "/events?ticket=TICKET", "chat, TICKET"),
            (protocol_only, "/events?ticket=TICKET", ""),
            (protocol_only, "/events?%74icket=TICKET", "chat, TICKET"),
            (neither, "/events?ticket=TICKET", ""),
            (neither, "/events", "TICKET"),
        ] {
            let taken = take_by(sources, uri, &[protocols]).0;
            assert_eq!(taken, Err(Malformed), "{uri} {protocols}");
        }
        // Without a ticket, the parameter and the protocols are those of the application.
        let (taken, uri, protocols) = take_by(neither, "/events?ticket=a", &["chat, v\u{e9}"]);
        assert_eq!((taken, uri.as_str()), (Ok(None), "/events?ticket=a"));
        assert!(protocols.is_some_and(|it| it.starts_with("chat, v")));
    }

    #[test]
    fn requests_without_a_ticket_stay_as_they_are() {
        for uri in [
            "/ws",
            "/ws?",
            "/ws?tickets=1&a=ticket",
            "/ws?Ticket=1",
            "/svcticket?a=svcticket",
        ] {
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
            ("/ws?ticket=TICKET%FF", &[]),
            ("/ws?%74icket=1", &[]),
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
