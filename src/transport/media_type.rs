use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// Whether a message says, once, that it is of this media type; parameters do not count.
pub(crate) fn has_media_type(headers: &HeaderMap, wanted: &str) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let essence = value.to_str().unwrap_or_default().split(';').next();
    essence.is_some_and(|it| it.trim().eq_ignore_ascii_case(wanted))
}
