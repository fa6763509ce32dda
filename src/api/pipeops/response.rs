use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use crate::api::body;
use crate::api::error::{ApiError, ErrorFormat, describe, missing_names};
use crate::lifecycle::LifecycleError;
use crate::reject::Rejection;
use crate::wire::RequiredNames;

/// The body of every response.
#[derive(Serialize)]
struct Envelope<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    required: Option<Box<RequiredNames>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
    status: &'static str,
    success: bool,
}

/// Creates the response to a successful call.
pub(super) fn success(status: StatusCode, message: &str, data: Option<impl Serialize>) -> Response {
    let envelope = Envelope {
        data,
        message,
        required: None,
        missing: Vec::new(),
        status: "success",
        success: true,
    };
    body::response(status, &envelope)
}

/// An error response in the format of the client.
pub(super) type ErrorResponse = ApiError<ErrorMessage>;

/// The message of an error, the roles or scopes that the call needs, and those of the token that the
/// caller lacks.
pub(super) struct ErrorMessage {
    text: String,
    required: Option<Box<RequiredNames>>,
    missing: Vec<String>,
}

impl ErrorFormat for ErrorMessage {
    fn new(_: StatusCode, message: String) -> Self {
        Self {
            text: message,
            required: None,
            missing: Vec::new(),
        }
    }

    fn from_rejection(rejection: &Rejection) -> Self {
        Self {
            text: describe(rejection),
            required: rejection.required().map(|it| Box::new(it.into())),
            missing: Vec::new(),
        }
    }

    /// A revoked token is not found.
    fn from_change(
        status: StatusCode,
        _: &'static str,
        error: LifecycleError,
    ) -> (StatusCode, Self) {
        if matches!(error, LifecycleError::Revoked) {
            let status = StatusCode::NOT_FOUND;
            return (
                status,
                Self::new(status, LifecycleError::NotFound.to_string()),
            );
        }
        let message = Self::new(status, error.to_string());
        let missing = missing_names(error);
        (status, Self { missing, ..message })
    }

    fn write(self, response: Response) -> Response {
        let envelope = Envelope {
            data: None::<()>,
            message: &self.text,
            required: self.required,
            missing: self.missing,
            status: "error",
            success: false,
        };
        let json = serde_json::to_string(&envelope).expect("an error is plain data");
        body::with_json(response, json)
    }
}
