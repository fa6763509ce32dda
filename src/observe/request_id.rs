use http::{HeaderMap, HeaderName, HeaderValue};

use crate::text::has_token;

/// The header that identifies a request in the logs of several services.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_REQUEST_ID_LENGTH: usize = 128;

/// Returns the id of a request: the header `X-Request-Id`, if there is one of 1 to 128 visible ASCII
/// characters without a text that looks like a service token, of any prefix.
///
/// The log events of this crate have the id as `request_id`. A middleware that assigns ids should
/// replace those that this function does not return.
///
/// ```
/// use http::HeaderMap;
/// use tower_service_token::api::request_id;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("x-request-id", "0af7651916cd43dd".parse()?);
/// assert!(request_id(&headers).is_some());
/// headers.append("x-request-id", "another".parse()?);
/// assert!(request_id(&headers).is_none());
/// # Ok::<_, http::header::InvalidHeaderValue>(())
/// ```
#[cfg(feature = "api")]
pub fn request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    single_request_id(headers).filter(|id| is_valid(id))
}

/// Returns the value of the header if there is one header of this name. It may be invalid.
pub(super) fn single_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(REQUEST_ID).iter();
    match (values.next(), values.next()) {
        (id, None) => id,
        _ => None,
    }
}

pub(super) fn is_valid(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    (1..=MAX_REQUEST_ID_LENGTH).contains(&bytes.len())
        && bytes.iter().all(u8::is_ascii_graphic)
        && id
            .to_str()
            .is_ok_and(|id| !id.contains("svctok-") && !has_token(id))
}

#[cfg(all(test, feature = "api"))]
mod tests {
    use super::*;

    fn id_of(values: &[&[u8]]) -> Option<Vec<u8>> {
        let values = values.iter().map(|value| HeaderValue::from_bytes(value));
        let headers = values.map(|value| (REQUEST_ID, value.expect("a header's value")));
        let headers: HeaderMap = headers.collect();
        request_id(&headers).map(|id| id.as_bytes().to_vec())
    }

    #[test]
    fn request_id_is_one_short_visible_value_without_a_token() {
        let longest = [b'x'; MAX_REQUEST_ID_LENGTH];
        for id in [&b"a"[..], b"0af7651916cd43dd8448eb211c80319c", &longest] {
            assert_eq!(id_of(&[id]).as_deref(), Some(id));
        }
        let too_long = [b'x'; MAX_REQUEST_ID_LENGTH + 1];
        let token: &[u8] = b"svctok-7Hq2mX9bTe_Zk3vN8pR1sYdQ6wLfGc5uJtA1YrM0n";
        for bad in [&b""[..], &too_long, b"a b", b"caf\xc3\xa9", token] {
            assert_eq!(id_of(&[bad]), None);
        }
        assert_eq!(id_of(&[b"a", b"b"]), None);
        assert_eq!(id_of(&[]), None);
    }
}
