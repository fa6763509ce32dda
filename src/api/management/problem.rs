use axum::Extension;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::super::body::BodyError;
use super::super::lifecycle_response::{
    actor_rejection, problem_response, status_code, unavailable_rejection,
};
use super::super::request_log::EscalationDenial;
use crate::lifecycle::{FieldProblem, LifecycleError, Patch};
use crate::middleware::Checker;
use crate::reject::Rejection;
use crate::wire;

/// An error response of the management API.
#[derive(Debug)]
pub(super) enum Problem {
    Json(StatusCode, Box<wire::Problem>, Option<EscalationDenial>),
    /// The layer would reject the caller, or the store is unavailable.
    Rejected(Rejection),
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let problem = wire::Problem::new(status, code, detail.into());
        Self::Json(status, Box::new(problem), None)
    }

    /// Creates the problem of a request that cannot be read.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    pub(super) fn not_found() -> Self {
        let detail = LifecycleError::NotFound.to_string();
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(super) fn method_not_allowed() -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let detail = "the path does not support this method";
        Self::new(status, "method_not_allowed", detail)
    }

    /// Creates the problem of a failed change.
    pub(super) fn from_error(error: LifecycleError, checker: &Checker) -> Self {
        if let Some(rejection) = actor_rejection(&error, checker) {
            return Self::Rejected(rejection);
        }
        let Some(code) = code(&error) else {
            return Self::Rejected(unavailable_rejection(error, checker));
        };
        let status = status_code(&error);
        let mut problem = wire::Problem::new(status, code, error.to_string());
        let escalation = EscalationDenial::from_error(&error);
        match error {
            LifecycleError::Invalid(problems) => return problems.into(),
            LifecycleError::PreviousSecret => {
                problem.detail = format!("{error}; send its ETag as If-Match").into();
            }
            LifecycleError::UnexpectedCount { expected, found } => {
                problem.expected = expected.map_or(Patch::Clear, Patch::Set);
                problem.found = Some(found);
            }
            LifecycleError::EscalationDenied { missing } => problem.missing = Some(missing),
            LifecycleError::TokensNotCovered { forbidden, .. } => {
                problem.forbidden = Some(forbidden);
            }
            _ => {}
        }
        Self::Json(status, Box::new(problem), escalation)
    }

    /// Names the members that are wrong.
    fn with_errors(mut self, errors: Vec<FieldProblem>) -> Self {
        if let Self::Json(_, problem, _) = &mut self {
            problem.errors = Some(errors);
        }
        self
    }
}

/// Returns the `code` of an error, or `None` if the store is at fault.
fn code(error: &LifecycleError) -> Option<&'static str> {
    Some(match error {
        LifecycleError::Invalid(_) => "invalid_fields",
        LifecycleError::NotFound => "not_found",
        LifecycleError::UnknownActor => "unknown_actor",
        LifecycleError::LastAdmin => "last_admin",
        LifecycleError::ConcurrentRotation => "rotated_meanwhile",
        LifecycleError::PreviousSecret => "precondition_required",
        LifecycleError::NameTaken => "name_taken",
        LifecycleError::TooManyTokens => "too_many_tokens",
        LifecycleError::Revoked => "token_revoked",
        LifecycleError::Expired => "token_expired",
        LifecycleError::IdempotencyKeyReused => "idempotency_key_reused",
        LifecycleError::UnexpectedCount { .. } => "unexpected_count",
        LifecycleError::RevisionMismatch => "precondition_failed",
        error if EscalationDenial::from_error(error).is_some() => "escalation_denied",
        _ => return None,
    })
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let status = error.status();
        let code = match status {
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            StatusCode::UNPROCESSABLE_ENTITY => "invalid_fields",
            _ => "invalid_request",
        };
        let problem = Self::new(status, code, error.to_string());
        match error.problem() {
            Some(field) => problem.with_errors(vec![field.clone()]),
            None => problem,
        }
    }
}

impl From<Vec<FieldProblem>> for Problem {
    fn from(problems: Vec<FieldProblem>) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(status, "invalid_fields", "fields break rules").with_errors(problems)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        match self {
            Self::Json(status, problem, None) => problem_response(status, &problem),
            Self::Json(status, problem, Some(escalation)) => {
                (Extension(escalation), problem_response(status, &problem)).into_response()
            }
            Self::Rejected(rejection) => rejection.into_response(),
        }
    }
}
