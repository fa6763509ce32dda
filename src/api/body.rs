use std::fmt;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::middleware::Next;
use axum::response::Response;
use futures::lock::Mutex;
use futures::stream::{self, StreamExt};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

/// The longest body of a call that manages tokens, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// The JSON object that a request bears.
pub(super) async fn json_object(request: Request) -> Result<Map<String, Value>, BodyError> {
    if !has_content_type(request.headers(), &[JSON]) {
        return Err(BodyError::MediaType(JSON));
    }
    parse(&read(request).await?)
}

/// The merge patch that a request bears (RFC 7396).
pub(super) async fn merge_patch(request: Request) -> Result<Map<String, Value>, BodyError> {
    if !has_content_type(request.headers(), &[MERGE_PATCH, JSON]) {
        return Err(BodyError::MediaType(MERGE_PATCH));
    }
    parse(&read(request).await?)
}

/// The JSON object that a request bears, if it bears anything.
pub(super) async fn optional_json_object(
    request: Request,
) -> Result<Map<String, Value>, BodyError> {
    let is_typed = request.headers().contains_key(CONTENT_TYPE);
    if is_typed && !has_content_type(request.headers(), &[JSON]) {
        return Err(BodyError::MediaType(JSON));
    }
    let body = read(request).await?;
    match (body.is_empty(), is_typed) {
        (true, _) => Ok(Map::new()),
        (false, true) => parse(&body),
        (false, false) => Err(BodyError::MediaType(JSON)),
    }
}

/// All of what a request bears.
pub(super) async fn read(request: Request) -> Result<Bytes, BodyError> {
    let body = Bytes::from_request(request, &()).await;
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => BodyError::TooLarge,
        _ => BodyError::Unreadable,
    })
}

/// Reads and drops what a handler left unread of a body, up to [`MAX_BODY_BYTES`] bytes: the server closes a
/// connection with an unread body, and the client's retries with it.
pub(super) async fn drain_unread(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = Arc::new(Mutex::new(body.into_data_stream()));
    let read = stream::unfold(Arc::clone(&body), async |body| {
        let chunk = body.lock().await.next().await?;
        Some((chunk, body))
    });
    let response = next
        .run(Request::from_parts(parts, Body::from_stream(read)))
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

fn parse(body: &[u8]) -> Result<Map<String, Value>, BodyError> {
    // The error is told by its place alone: an excerpt may be a secret that got here by mistake.
    serde_json::from_slice(body).map_err(|error| BodyError::NotAnObject {
        line: error.line(),
        column: error.column(),
    })
}

fn has_content_type(headers: &HeaderMap, wanted: &[&str]) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let essence = value.to_str().unwrap_or_default().split(';').next();
    let essence = essence.unwrap_or_default().trim();
    wanted.iter().any(|it| essence.eq_ignore_ascii_case(it))
}

/// A body is not what a call takes.
#[derive(Debug)]
pub(super) enum BodyError {
    /// It must be of this media type.
    MediaType(&'static str),
    TooLarge,
    /// It broke off.
    Unreadable,
    NotAnObject {
        line: usize,
        column: usize,
    },
}

impl BodyError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unreadable | Self::NotAnObject { .. } => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MediaType(wanted) => write!(f, "the body must be {wanted}"),
            Self::TooLarge => write!(f, "the body is larger than {} KiB", MAX_BODY_BYTES / 1024),
            Self::Unreadable => f.write_str("the body could not be read"),
            Self::NotAnObject { line, column } => write!(
                f,
                "the body is not a JSON object (line {line}, column {column})"
            ),
        }
    }
}
