use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::problem::Problem;

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// The JSON object that a request bears.
pub(super) async fn object(request: Request) -> Result<Map<String, Value>, Problem> {
    if !is_one_of(request.headers(), &[JSON]) {
        return Err(Problem::unsupported_media_type(JSON));
    }
    parse(&read(request).await?)
}

/// The merge patch that a request bears (RFC 7396).
pub(super) async fn merge_patch(request: Request) -> Result<Map<String, Value>, Problem> {
    if !is_one_of(request.headers(), &[MERGE_PATCH, JSON]) {
        return Err(Problem::unsupported_media_type(MERGE_PATCH));
    }
    parse(&read(request).await?)
}

/// The JSON object that a request bears, if it bears anything.
pub(super) async fn optional(request: Request) -> Result<Map<String, Value>, Problem> {
    let is_typed = request.headers().contains_key(CONTENT_TYPE);
    if is_typed && !is_one_of(request.headers(), &[JSON]) {
        return Err(Problem::unsupported_media_type(JSON));
    }
    let body = read(request).await?;
    match (body.is_empty(), is_typed) {
        (true, _) => Ok(Map::new()),
        (false, true) => parse(&body),
        (false, false) => Err(Problem::unsupported_media_type(JSON)),
    }
}

async fn read(request: Request) -> Result<Bytes, Problem> {
    let body = Bytes::from_request(request, &()).await;
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(),
        _ => Problem::malformed("the body could not be read"),
    })
}

fn parse(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    // The error is told by its place alone: an excerpt may be a secret that got here by mistake.
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let detail = format!("the body is not a JSON object (line {line}, column {column})");
        Problem::malformed(detail)
    })
}

fn is_one_of(headers: &HeaderMap, wanted: &[&str]) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let essence = value.to_str().unwrap_or_default().split(';').next();
    let essence = essence.unwrap_or_default().trim();
    wanted.iter().any(|it| essence.eq_ignore_ascii_case(it))
}
