use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::super::body::{self, BodyError};
use super::super::lifecycle_response::{actor_rejection, status_code, unavailable_rejection};
use super::super::request_log::EscalationDenial;
use super::expiry::millis;
use crate::clock::Clock;
use crate::lifecycle::LifecycleError;
use crate::middleware::Checker;
use crate::observe::{REQUEST_ID, request_id};
use crate::reject::{Rejection, ResponseForRejection};

const INVALID_EXPIRY: &str = "ServiceTokenInvalidExpiryError";

/// An error response in the format of the tool.
pub(super) struct ErrorResponse {
    response: Response,
    errors: Vec<ErrorEntry>,
}

#[derive(Clone, Serialize)]
struct ErrorEntry {
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

impl ErrorResponse {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self::of_kind(status, kind(status), message)
    }

    /// Creates the error of an invalid expiry, which the tool expects to be 400.
    pub(super) fn expiry(message: &str) -> Self {
        Self::of_kind(StatusCode::BAD_REQUEST, INVALID_EXPIRY, message)
    }

    fn of_kind(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            response: status.into_response(),
            errors: vec![ErrorEntry { kind, message }],
        }
    }

    /// Creates the error of a failed change.
    pub(super) fn from_error(error: LifecycleError, checker: &Checker) -> Self {
        if let Some(rejection) = actor_rejection(&error, checker) {
            return rejection.into();
        }
        let status = status_code(&error);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return unavailable_rejection(error, checker).into();
        }
        let mut failure = Self::new(status, error.to_string());
        if let LifecycleError::Invalid(problems) = &error {
            let entries = problems.iter().map(|it| match &*it.pointer {
                "/expires_at" => (INVALID_EXPIRY, it.detail.to_string()),
                pointer => (kind(status), format!("{}: {}", &pointer[1..], it.detail)),
            });
            let entries = entries.map(|(kind, message)| ErrorEntry { kind, message });
            failure.errors = entries.collect();
            if failure.errors.iter().any(|it| it.kind == INVALID_EXPIRY) {
                *failure.response.status_mut() = StatusCode::BAD_REQUEST;
            }
        }
        if let Some(escalation) = EscalationDenial::from_error(&error) {
            failure.response.extensions_mut().insert(escalation);
        }
        failure
    }
}

impl From<Rejection> for ErrorResponse {
    fn from(rejection: Rejection) -> Self {
        let kind = kind(rejection.status());
        let message = rejection.to_string();
        let mut response = rejection.to_response(Body::empty());
        rejection.attach(response.extensions_mut());
        let errors = vec![ErrorEntry { kind, message }];
        Self { response, errors }
    }
}

impl From<BodyError> for ErrorResponse {
    fn from(error: BodyError) -> Self {
        Self::new(error.status(), error.to_string())
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let mut response = body::write(self.response, Body::empty());
        response.extensions_mut().insert(Errors(self.errors));
        response
    }
}

/// The errors of a response whose body is not written yet, in its extensions.
#[derive(Clone)]
struct Errors(Vec<ErrorEntry>);

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

/// Creates the responses of the layer and the guards in the same format.
#[derive(Clone, Copy)]
pub(super) struct Rejections;

impl ResponseForRejection<Body> for Rejections {
    fn response_for_rejection(&mut self, rejection: &Rejection) -> Response {
        ErrorResponse::from(rejection.clone()).into_response()
    }
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
