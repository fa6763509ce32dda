use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::super::body;
use super::super::error::{ApiError, ErrorFormat};
use super::expiry::millis;
use crate::clock::Clock;
use crate::lifecycle::LifecycleError;
use crate::observe::{REQUEST_ID, request_id};

const INVALID_EXPIRY: &str = "ServiceTokenInvalidExpiryError";

/// An error response in the format of the tool.
pub(super) type ErrorResponse = ApiError<Errors>;

/// The errors of a response whose body is not written yet, in its extensions.
#[derive(Clone)]
pub(super) struct Errors(Vec<ErrorEntry>);

#[derive(Clone, Serialize)]
pub(super) struct ErrorEntry {
    #[serde(rename = "_type")]
    kind: &'static str,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    message: &'a str,
    tracking_key: &'a str,
    server_timestamp: Option<i64>,
    errors: &'a [ErrorEntry],
}

impl ErrorFormat for Errors {
    fn new(status: StatusCode, message: String) -> Self {
        let kind = kind(status);
        Self(vec![ErrorEntry { kind, message }])
    }

    /// An invalid expiry has a type of its own, and the tool expects it to be 400.
    fn from_change(
        status: StatusCode,
        _: &'static str,
        error: LifecycleError,
    ) -> (StatusCode, Self) {
        let LifecycleError::Invalid(problems) = error else {
            return (status, Self::new(status, error.to_string()));
        };
        let entries = problems.iter().map(|it| match &*it.pointer {
            "/expires_at" => (INVALID_EXPIRY, it.detail.to_string()),
            pointer => (kind(status), format!("{}: {}", &pointer[1..], it.detail)),
        });
        let entries = entries.map(|(kind, message)| ErrorEntry { kind, message });
        let errors: Vec<_> = entries.collect();
        let is_invalid_expiry = errors.iter().any(|it| it.kind == INVALID_EXPIRY);
        let status = if is_invalid_expiry {
            StatusCode::BAD_REQUEST
        } else {
            status
        };
        (status, Self(errors))
    }

    fn write(self, response: Response) -> Response {
        let mut response = body::with_json(response, Body::empty());
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the bodies of errors. The tracking key is the request id; a request without one gets a
/// random one, so that the log has the same.
pub(super) async fn write_error_bodies(
    State(clock): State<Arc<dyn Clock>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers()).cloned().unwrap_or_else(|| {
        let id = format!("{:016x}", getrandom::u64().unwrap_or_default());
        HeaderValue::try_from(id).expect("hex digits are visible ASCII")
    });
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    let Some(Errors(errors)) = response.extensions_mut().remove() else {
        return response;
    };
    let body = ErrorBody {
        kind: errors.first().map_or("", |error| error.kind),
        message: errors.first().map_or("", |error| &error.message),
        tracking_key: id.to_str().unwrap_or_default(),
        server_timestamp: millis(clock.now()),
        errors: &errors,
    };
    let body = serde_json::to_string(&body).expect("an error is plain data");
    response.map(|_| Body::from(body))
}

fn kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UnauthorizedError",
        403 => "ForbiddenError",
        404 => "NotFoundError",
        409 => "ConflictError",
        413 => "PayloadTooLargeError",
        429 => "TooManyRequestsError",
        503 => "ServiceUnavailableError",
        500..=599 => "InternalServerError",
        _ => "BadRequestError",
    }
}
