use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

use super::super::body::{self, BodyError};
use super::super::lifecycle_response::{actor_rejection, status_code, unavailable_rejection};
use super::super::request_log::EscalationDenial;
use crate::lifecycle::{FieldProblem, LifecycleError};
use crate::middleware::Checker;
use crate::reject::{Rejection, ResponseForRejection};

/// The body of every response.
#[derive(Serialize)]
struct Envelope<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
    message: &'a str,
    status: &'static str,
    success: bool,
}

/// Creates the response to a successful call.
pub(super) fn success(status: StatusCode, message: &str, data: Option<impl Serialize>) -> Response {
    let envelope = Envelope {
        data,
        message,
        status: "success",
        success: true,
    };
    body::response(status, &envelope)
}

/// An error response in the format of the client.
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

    /// Creates the error of a failed change. A revoked token is not found.
    pub(super) fn from_error(error: LifecycleError, checker: &Checker) -> Self {
        if let Some(rejection) = actor_rejection(&error, checker) {
            return rejection.into();
        }
        let escalation = EscalationDenial::from_error(&error);
        let mut failure = match status_code(&error) {
            StatusCode::SERVICE_UNAVAILABLE => return unavailable_rejection(error, checker).into(),
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
}

impl From<Rejection> for ErrorResponse {
    fn from(rejection: Rejection) -> Self {
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
        let envelope = Envelope {
            data: None::<()>,
            message: &self.message,
            status: "error",
            success: false,
        };
        let json = serde_json::to_string(&envelope).expect("an error is plain data");
        body::write(self.response, json)
    }
}

/// Creates the responses of the layer and the guards in the same format.
#[derive(Clone, Copy)]
pub(super) struct Rejections;

impl ResponseForRejection<Body> for Rejections {
    fn response_for_rejection(&mut self, rejection: &Rejection) -> Response {
        ErrorResponse::from(rejection.clone()).into_response()
    }
}
