//! The media types of requests and responses.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

pub(crate) const JSON: &str = "application/json";
#[cfg(any(feature = "api", feature = "client"))]
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
#[cfg(feature = "api")]
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// Returns whether a message has exactly one `Content-Type`, and it is this media type. Parameters
/// are ignored.
pub(crate) fn is(headers: &HeaderMap, media_type: &str) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let essence = value.to_str().unwrap_or_default().split(';').next();
    essence.is_some_and(|it| it.trim().eq_ignore_ascii_case(media_type))
}
