use std::borrow::Cow;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA};
use http::{HeaderMap, HeaderValue, StatusCode};
use zeroize::Zeroizing;

/// The parameter `token` of a form.
///
/// As RFC 6749 §3.1 has it, an empty parameter counts as absent, and none may occur twice.
pub(super) async fn token(request: Request) -> Result<Zeroizing<String>, FormError> {
    if !is_form(request.headers()) {
        return Err(FormError::INVALID);
    }
    let body = Bytes::from_request(request, &()).await;
    let body = body.map_err(|rejection| FormError {
        status: rejection.status(),
        ..FormError::INVALID
    })?;
    let parameters = form_urlencoded::parse(&body);
    let mut tokens = parameters.filter(|(name, _)| name == "token");
    let token = tokens.next().map(|(_, token)| into_zeroizing(token));
    match (token, tokens.next()) {
        (Some(token), None) if !token.is_empty() => Ok(token),
        _ => Err(FormError::INVALID),
    }
}

fn into_zeroizing(token: Cow<'_, str>) -> Zeroizing<String> {
    Zeroizing::new(token.into_owned())
}

fn is_form(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(media_type), None) = (types.next(), types.next()) else {
        return false;
    };
    let essence = media_type.as_bytes().split(|&byte| byte == b';').next();
    let essence = essence.unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// A refusal in the form of RFC 6749 §5.2.
#[derive(Clone, Copy, Debug)]
pub(super) struct FormError {
    status: StatusCode,
    error: &'static str,
}

impl FormError {
    const INVALID: Self = Self {
        status: StatusCode::BAD_REQUEST,
        error: "invalid_request",
    };

    /// The token is good, and none that can be revoked here (RFC 7009 §2.2.1).
    pub(super) const UNSUPPORTED: Self = Self {
        status: StatusCode::BAD_REQUEST,
        error: "unsupported_token_type",
    };
}

impl IntoResponse for FormError {
    fn into_response(self) -> Response {
        (
            self.status,
            json_response(format!(r#"{{"error":"{}"}}"#, self.error)),
        )
            .into_response()
    }
}

/// A JSON body that nobody may keep.
pub(super) fn json_response(body: String) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    forbid_caching(headers);
    response
}

/// `Pragma` for caches from before HTTP/1.1, as RFC 6749 §5.1 wants.
pub(super) fn forbid_caching(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
}
