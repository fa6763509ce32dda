use std::borrow::Cow;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderValue, StatusCode};
use zeroize::Zeroizing;

use crate::api::body;
use crate::api::entity_tag::PreconditionError;
use crate::media_type;

/// Returns the parameter `token` of a form.
///
/// An empty parameter is absent, and none may be repeated (RFC 6749 §3.1).
pub(super) async fn token(request: Request) -> Result<Zeroizing<String>, FormError> {
    if !media_type::is(request.headers(), media_type::FORM) {
        return Err(FormError::INVALID);
    }
    let body = body::read(request).await.map_err(|error| FormError {
        status: error.status(),
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

/// An error response of RFC 6749 §5.2.
#[derive(Clone, Copy, Debug)]
pub(super) struct FormError {
    status: StatusCode,
    error: &'static str,
}

impl FormError {
    pub(super) const INVALID: Self = Self {
        status: StatusCode::BAD_REQUEST,
        error: "invalid_request",
    };

    /// The token is valid, and cannot be revoked here (RFC 7009 §2.2.1).
    pub(super) const UNSUPPORTED: Self = Self {
        status: StatusCode::BAD_REQUEST,
        error: "unsupported_token_type",
    };
}

impl From<PreconditionError> for FormError {
    fn from(error: PreconditionError) -> Self {
        Self {
            status: error.status(),
            ..Self::INVALID
        }
    }
}

impl IntoResponse for FormError {
    fn into_response(self) -> Response {
        let json = format!(r#"{{"error":"{}"}}"#, self.error);
        body::with_json(self.status.into_response(), json)
    }
}

/// Forbids caches to store a response. `Pragma` is for HTTP/1.0 caches (RFC 6749 §5.1).
pub(super) async fn forbid_storing(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}
