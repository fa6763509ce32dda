use axum::response::Response;
use http::StatusCode;

use crate::api::body::{self, BodyError};
use crate::api::error::{ApiError, ErrorFormat};
use crate::lifecycle::{LifecycleError, Patch};
use crate::registry::AuthorityError;
use crate::reject::{ProblemJson, Rejection, ResponseForRejection};
use crate::wire;

/// An error response of the management API.
pub(super) type Problem = ApiError<Box<wire::Problem>>;

impl ErrorFormat for Box<wire::Problem> {
    fn new(status: StatusCode, message: String) -> Self {
        let code = match status {
            StatusCode::NOT_FOUND => "not_found",
            StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
            StatusCode::PRECONDITION_FAILED => "precondition_failed",
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
            StatusCode::UNPROCESSABLE_ENTITY => "invalid_fields",
            _ => "invalid_request",
        };
        Self::new(wire::Problem::new(status, code, message))
    }

    /// Names the member that is wrong.
    fn from_body_error(error: &BodyError) -> Self {
        let mut problem = <Self as ErrorFormat>::new(error.status(), error.to_string());
        problem.errors = error.problem().map(|field| vec![field.clone()]);
        problem
    }

    fn from_change(
        status: StatusCode,
        code: &'static str,
        error: LifecycleError,
    ) -> (StatusCode, Self) {
        let mut problem = wire::Problem::new(status, code, error.to_string());
        match error {
            LifecycleError::Invalid(problems) => {
                problem.detail = "fields break rules".into();
                problem.errors = Some(problems);
            }
            LifecycleError::Unauthorized(AuthorityError::PreviousSecret) => {
                problem.detail = format!("{error}; send its ETag as If-Match").into();
            }
            LifecycleError::UnexpectedCount { expected, found } => {
                problem.expected = expected.map_or(Patch::Clear, Patch::Set);
                problem.found = Some(found);
            }
            LifecycleError::Unauthorized(AuthorityError::EscalationDenied { missing }) => {
                problem.missing = Some(missing);
            }
            LifecycleError::TokensNotCovered { forbidden, .. } => {
                problem.forbidden = Some(forbidden);
            }
            _ => {}
        }
        (status, Self::new(problem))
    }

    fn write(self, response: Response) -> Response {
        body::with_problem(response, &self)
    }

    fn reject(rejection: &Rejection) -> Response {
        ProblemJson.response_for_rejection(rejection)
    }
}
