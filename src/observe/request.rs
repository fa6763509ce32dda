use http::{Extensions, HeaderMap, HeaderName, HeaderValue};

use crate::limits::ClientAddress;
use crate::token::TokenId;

/// The header that identifies a request in the logs of several services.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_REQUEST_ID: usize = 128;

/// The request that an event is about.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    not(feature = "tracing"),
    expect(dead_code, reason = "only events have these fields")
)]
pub(crate) struct RequestInfo {
    request_id: Option<HeaderValue>,
    endpoint: Option<Box<str>>,
    caller: Option<TokenId>,
    client: Option<ClientAddress>,
}

impl RequestInfo {
    /// Reads the request id from the headers, and the client's address from the extensions.
    pub(crate) fn of(headers: &HeaderMap, extensions: &Extensions) -> Self {
        Self {
            request_id: request_id(headers).cloned(),
            client: ClientAddress::from_extensions(extensions),
            ..Self::default()
        }
    }

    /// Adds the method and the route, such as `POST /service-tokens/{id}/rotate`.
    #[cfg(feature = "api")]
    pub(crate) fn with_endpoint(mut self, endpoint: impl Into<Box<str>>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// Adds the token that the request is made with. One that is known already stays.
    #[cfg(feature = "api")]
    pub(crate) fn with_caller(mut self, caller: Option<TokenId>) -> Self {
        self.caller = self.caller.or(caller);
        self
    }

    /// Returns the id of the request, unless the current span has it already.
    #[cfg(feature = "tracing")]
    pub(super) fn request_id(&self) -> Option<&str> {
        if tracing::Span::current().has_field("request_id") {
            return None;
        }
        self.request_id.as_ref()?.to_str().ok()
    }

    #[cfg(feature = "tracing")]
    pub(super) fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    #[cfg(feature = "tracing")]
    pub(super) fn client(&self) -> Option<ClientAddress> {
        self.client
    }

    #[cfg(feature = "tracing")]
    pub(super) fn caller(&self) -> Option<TokenId> {
        self.caller
    }
}

/// Returns the id of a request: one header of 1 to 128 visible ASCII characters that do not contain
/// a service token.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(REQUEST_ID).iter();
    let (Some(id), None) = (values.next(), values.next()) else {
        return None;
    };
    let bytes = id.as_bytes();
    let is_token = bytes.windows(7).any(|part| part == b"svctok-");
    let is_good = (1..=MAX_REQUEST_ID).contains(&bytes.len())
        && bytes.iter().all(u8::is_ascii_graphic)
        && !is_token;
    is_good.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(values: &[&[u8]]) -> Option<Vec<u8>> {
        let values = values.iter().map(|value| HeaderValue::from_bytes(value));
        let headers = values.map(|value| (REQUEST_ID, value.expect("a header's value")));
        let headers: HeaderMap = headers.collect();
        request_id(&headers).map(|id| id.as_bytes().to_vec())
    }

    #[test]
    fn accepts_one_short_visible_id_without_a_token() {
        let longest = [b'x'; MAX_REQUEST_ID];
        for id in [&b"a"[..], b"0af7651916cd43dd8448eb211c80319c", &longest] {
            assert_eq!(id_of(&[id]).as_deref(), Some(id));
        }
        let too_long = [b'x'; MAX_REQUEST_ID + 1];
        let token: &[u8] = b"svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";
        for bad in [&b""[..], &too_long, b"a b", b"caf\xc3\xa9", token] {
            assert_eq!(id_of(&[bad]), None);
        }
        assert_eq!(id_of(&[b"a", b"b"]), None);
        assert_eq!(id_of(&[]), None);
    }
}
