use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::super::body;
use super::super::error::{ApiError, ErrorFormat};
use crate::lifecycle::LifecycleError;

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
pub(super) type ErrorResponse = ApiError<ErrorMessage>;

/// The message of an error.
pub(super) struct ErrorMessage(String);

impl ErrorFormat for ErrorMessage {
    fn new(_: StatusCode, message: String) -> Self {
        Self(message)
    }

    /// A revoked token is not found.
    fn from_change(
        status: StatusCode,
        _: &'static str,
        error: LifecycleError,
    ) -> (StatusCode, Self) {
        if matches!(error, LifecycleError::Revoked) {
            let message = LifecycleError::NotFound.to_string();
            return (StatusCode::NOT_FOUND, Self(message));
        }
        (status, Self(error.to_string()))
    }

    fn write(self, response: Response) -> Response {
        let envelope = Envelope {
            data: None::<()>,
            message: &self.0,
            status: "error",
            success: false,
        };
        let json = serde_json::to_string(&envelope).expect("an error is plain data");
        body::with_json(response, json)
    }
}
