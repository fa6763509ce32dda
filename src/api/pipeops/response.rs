use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::super::body::BodyError;
use super::super::lifecycle_response::{actor_rejection, status_code, unavailable_rejection};
use super::super::request_log::EscalationDenial;
use crate::lifecycle::{FieldProblem, LifecycleError};
use crate::middleware::Checker;
use crate::reject::{Rejection, ResponseForRejection};

/// The answer to a call that was done.
pub(super) fn success_response(status: StatusCode, message: &str, data: Option<Value>) -> Response {
    let mut body = json!({ "success": true, "status": "success", "message": message });
    if let Some(data) = data {
        body["data"] = data;
    }
    with_body(status.into_response(), body.to_string())
}

/// A call that failed, as the client shows it.
pub(super) struct ErrorResponse {
    response: Response,
    message: String,
}

impl ErrorResponse {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            response: status.into_response(),
            message: message.into(),
        }
    }

    /// What became of a change. A token that was revoked is gone.
    pub(super) fn from_error(error: LifecycleError, checker: &Checker) -> Self {
        if let Some(rejection) = actor_rejection(&error, checker) {
            return Self::from_rejection(rejection);
        }
        let escalation = EscalationDenial::from_error(&error);
        let mut failure = match status_code(&error) {
            StatusCode::SERVICE_UNAVAILABLE => {
                return Self::from_rejection(unavailable_rejection(error, checker));
            }
            _ if matches!(error, LifecycleError::Revoked) => return Self::not_found(),
            status => Self::new(status, error.to_string()),
        };
        if let Some(escalation) = escalation {
            failure.response.extensions_mut().insert(escalation);
        }
        failure
    }

    pub(super) fn not_found() -> Self {
        let message = LifecycleError::NotFound.to_string();
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn from_rejection(rejection: Rejection) -> Self {
        let mut response = rejection.to_response(Body::empty());
        let message = rejection.to_string();
        rejection.attach(response.extensions_mut());
        Self { response, message }
    }
}

impl From<BodyError> for ErrorResponse {
    fn from(error: BodyError) -> Self {
        Self::new(error.status(), error.to_string())
    }
}

impl From<Vec<FieldProblem>> for ErrorResponse {
    fn from(problems: Vec<FieldProblem>) -> Self {
        let error = LifecycleError::Invalid(problems);
        Self::new(status_code(&error), error.to_string())
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let body = json!({ "success": false, "status": "error", "message": self.message });
        with_body(self.response, body.to_string())
    }
}

/// Says refusals of the layer and the guards in the same shape.
#[derive(Clone, Copy)]
pub(super) struct RejectionResponses;

impl ResponseForRejection<Body> for RejectionResponses {
    fn response_for_rejection(&mut self, rejection: &Rejection) -> Response {
        ErrorResponse::from_rejection(rejection.clone()).into_response()
    }
}

pub(super) fn with_body(mut response: Response, body: impl Into<Body>) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.map(|_| body.into())
}
