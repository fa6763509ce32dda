use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::lock::Mutex;
use futures_util::stream::{self, StreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::lifecycle::FieldProblem;
use crate::media_type;
use crate::wire::{self, JsonError, Problem};

/// The maximum size of a request body, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;

const EFFECTIVE_WITHIN: HeaderName = HeaderName::from_static("service-token-effective-within");

/// Reads a JSON object.
pub(super) async fn json<T: DeserializeOwned>(request: Request) -> Result<T, BodyError> {
    if !media_type::is(request.headers(), media_type::JSON) {
        return Err(BodyError::MediaType(media_type::JSON));
    }
    parse(&read(request).await?)
}

/// Reads a JSON merge patch (RFC 7396).
pub(super) async fn merge_patch<T: DeserializeOwned>(request: Request) -> Result<T, BodyError> {
    let mut accepted = [media_type::MERGE_PATCH, media_type::JSON].into_iter();
    if !accepted.any(|media_type| media_type::is(request.headers(), media_type)) {
        return Err(BodyError::MediaType(media_type::MERGE_PATCH));
    }
    parse(&read(request).await?)
}

/// Reads a JSON object, or returns the default if there is no body.
pub(super) async fn optional<T>(request: Request) -> Result<T, BodyError>
where
    T: DeserializeOwned + Default,
{
    let is_typed = request.headers().contains_key(CONTENT_TYPE);
    if is_typed && !media_type::is(request.headers(), media_type::JSON) {
        return Err(BodyError::MediaType(media_type::JSON));
    }
    let body = read(request).await?;
    match (body.is_empty(), is_typed) {
        (true, _) => Ok(T::default()),
        (false, true) => parse(&body),
        (false, false) => Err(BodyError::MediaType(media_type::JSON)),
    }
}

/// Reads a body of any media type.
pub(super) async fn read(request: Request) -> Result<Bytes, BodyError> {
    let body = Bytes::from_request(request, &()).await;
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => BodyError::TooLarge,
        _ => BodyError::Unreadable,
    })
}

/// Decodes a JSON object strictly.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyError> {
    Ok(wire::from_slice(body)?)
}

/// Adds JSON to a response. No cache may store it.
pub fn with_json(mut response: Response, json: impl Into<Body>) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type::JSON));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.map(|_| json.into())
}

/// Creates a JSON response that no cache may store.
pub(super) fn response(status: StatusCode, body: &impl Serialize) -> Response {
    let json = serde_json::to_string(body).expect("the body is plain data");
    with_json(status.into_response(), json)
}

/// Creates a problem response that no cache may store.
pub fn problem_response(status: StatusCode, code: &'static str, detail: &'static str) -> Response {
    with_problem(status.into_response(), &Problem::new(status, code, detail))
}

/// Adds a problem to a response. No cache may store it.
pub(super) fn with_problem(response: Response, problem: &Problem) -> Response {
    let mut response = with_json(response, problem.to_json());
    let media_type = HeaderValue::from_static(Problem::MEDIA_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

/// Adds the header with the seconds, rounded up, after which every node sees a change.
pub(super) fn with_effective_within(within: Duration, mut response: Response) -> Response {
    let part = u64::from(within.subsec_nanos() > 0);
    let seconds = within.as_secs().saturating_add(part);
    let headers = response.headers_mut();
    headers.insert(EFFECTIVE_WITHIN, HeaderValue::from(seconds));
    response
}

/// Reads and drops up to [`MAX_BODY_BYTES`] bytes that a handler left unread. Otherwise the server closes the
/// connection, and the client's retries fail with it.
pub(super) async fn drain_unread(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = Arc::new(Mutex::new(body.into_data_stream().fuse()));
    let read = stream::unfold(Arc::clone(&body), async |body| {
        let chunk = body.lock().await.next().await?;
        Some((chunk, body))
    });
    let response = next
        .run(Request::from_parts(parts, Body::from_stream(read.fuse())))
        .await;
    let mut unread = 0;
    while let Some(Ok(chunk)) = body.lock().await.next().await {
        unread += chunk.len();
        if unread > MAX_BODY_BYTES {
            break;
        }
    }
    response
}

/// A body is not what a call takes.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body must be {0}")]
    MediaType(&'static str),
    #[error("the body is larger than {} KiB", MAX_BODY_BYTES / 1024)]
    TooLarge,
    #[error("the body could not be read")]
    Unreadable,
    #[error(transparent)]
    Json(#[from] JsonError),
}

impl BodyError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Json(JsonError::Invalid(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unreadable | Self::Json(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns the member that is wrong, if the JSON could be parsed.
    pub(super) fn problem(&self) -> Option<&FieldProblem> {
        match self {
            Self::Json(JsonError::Duplicate(problem) | JsonError::Invalid(problem)) => {
                Some(problem)
            }
            _ => None,
        }
    }
}
