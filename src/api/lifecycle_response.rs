use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderName, HeaderValue};

const EFFECTIVE_WITHIN: HeaderName = HeaderName::from_static("service-token-effective-within");

/// The parameter of a path. It is empty if the path is not UTF-8, and no token has that id.
pub(super) struct PathSegment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for PathSegment {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(path.map(|Path(text)| text).unwrap_or_default()))
    }
}

/// Adds the header with the seconds, rounded up, after which every node sees a change.
pub(super) fn with_effective_within(within: Duration, mut response: Response) -> Response {
    let part = u64::from(within.subsec_nanos() > 0);
    let seconds = within.as_secs().saturating_add(part);
    let headers = response.headers_mut();
    headers.insert(EFFECTIVE_WITHIN, HeaderValue::from(seconds));
    response
}
