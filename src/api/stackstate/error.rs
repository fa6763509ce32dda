use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::super::lifecycle_response::{actor_rejection, status_code, unavailable_rejection};
use super::super::request_log::EscalationDenial;
use super::expiry::millis;
use crate::clock::Clock;
use crate::lifecycle::LifecycleError;
use crate::middleware::Checker;
use crate::observe::{REQUEST_ID, request_id};
use crate::reject::{Rejection, ResponseForRejection};

/// A call that failed, as the tool shows it.
pub(super) struct ErrorResponse {
    response: Response,
    errors: Vec<(&'static str, String)>,
    now: SystemTime,
}

impl ErrorResponse {
    pub(super) fn new(status: StatusCode, message: impl Into<String>, now: SystemTime) -> Self {
        Self::with_type(status, kind(status), message, now)
    }

    pub(super) fn with_type(
        status: StatusCode,
        kind: &'static str,
        message: impl Into<String>,
        now: SystemTime,
    ) -> Self {
        Self {
            response: status.into_response(),
            errors: vec![(kind, message.into())],
            now,
        }
    }

    /// What became of a change.
    pub(super) fn from_error(error: LifecycleError, checker: &Checker) -> Self {
        let now = checker.clock.now();
        if let Some(rejection) = actor_rejection(&error, checker) {
            return Self::from_rejection(rejection, now);
        }
        if let LifecycleError::Invalid(problems) = &error {
            let kind = kind(StatusCode::BAD_REQUEST);
            let errors = problems.iter().map(|it| match &*it.pointer {
                "/expires_at" => ("ServiceTokenInvalidExpiryError", it.detail.to_string()),
                pointer => (kind, format!("{}: {}", &pointer[1..], it.detail)),
            });
            return Self {
                response: StatusCode::BAD_REQUEST.into_response(),
                errors: errors.collect(),
                now,
            };
        }
        let escalation = EscalationDenial::from_error(&error);
        let mut failure = match status_code(&error) {
            StatusCode::SERVICE_UNAVAILABLE => {
                return Self::from_rejection(unavailable_rejection(error, checker), now);
            }
            status => Self::new(status, error.to_string(), now),
        };
        if let Some(escalation) = escalation {
            failure.response.extensions_mut().insert(escalation);
        }
        failure
    }

    pub(super) fn from_rejection(rejection: Rejection, now: SystemTime) -> Self {
        let errors = vec![(kind(rejection.status()), rejection.to_string())];
        let mut response = rejection.to_response(Body::empty());
        rejection.attach(response.extensions_mut());
        Self {
            response,
            errors,
            now,
        }
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(mut self) -> Response {
        let headers = self.response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let errors = self.errors.iter();
        let errors = errors.map(|(kind, message)| json!({ "_type": kind, "message": message }));
        let errors: Vec<_> = errors.collect();
        let mut body = json!({ "serverTimestamp": millis(self.now), "errors": errors });
        if let Some((kind, message)) = self.errors.first() {
            body["_type"] = json!(kind);
            body["message"] = json!(message);
        }
        self.response.extensions_mut().insert(ErrorBody(body));
        self.response
    }
}

/// The body of an error without its tracking key, in the extensions of the response.
#[derive(Clone)]
struct ErrorBody(Value);

/// Writes the bodies of errors. Their tracking key is the request id, which a request without one
/// gets here, so that the log has the same.
pub(super) async fn write_error_bodies(mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers()).cloned().unwrap_or_else(|| {
        let id = format!("{:016x}", getrandom::u64().unwrap_or_default());
        HeaderValue::try_from(id).expect("hex digits are visible ASCII")
    });
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    let Some(ErrorBody(mut body)) = response.extensions_mut().remove::<ErrorBody>() else {
        return response;
    };
    body["trackingKey"] = json!(id.to_str().unwrap_or_default());
    response.map(|_| Body::from(body.to_string()))
}

/// Says refusals of the layer and the guards in the same shape.
#[derive(Clone)]
pub(super) struct RejectionResponses(pub(super) Arc<dyn Clock>);

impl ResponseForRejection<Body> for RejectionResponses {
    fn response_for_rejection(&mut self, rejection: &Rejection) -> Response {
        ErrorResponse::from_rejection(rejection.clone(), self.0.now()).into_response()
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
