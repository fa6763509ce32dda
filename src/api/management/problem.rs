use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::super::body::BodyError;
use super::super::outcome::outage;
use crate::lifecycle::{FieldProblem, LifecycleError};
use crate::middleware::Checker;
use crate::reject::Rejection;

/// What a caller gets who asks for something that cannot be done: `application/problem+json`
/// (RFC 9457).
#[derive(Debug)]
pub(super) enum Problem {
    Of(StatusCode, &'static str, String, Map<String, Value>),
    /// The store could not be asked.
    Store(Rejection),
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self::Of(status, code, detail.into(), Map::new())
    }

    /// The request cannot be read.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    pub(super) fn not_found() -> Self {
        let detail = LifecycleError::NotFound.to_string();
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// The path is that of other calls.
    pub(super) fn no_such_call() -> Self {
        let detail = "there is no such call on this path";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// Fields break rules.
    pub(super) fn invalid(problems: &[FieldProblem]) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let errors = problems
            .iter()
            .map(|it| json!({ "pointer": it.pointer, "detail": it.detail }))
            .collect();
        let more = Map::from_iter([("errors".to_owned(), Value::Array(errors))]);
        Self::Of(status, "invalid_fields", "fields break rules".into(), more)
    }

    /// What became of a change.
    pub(super) fn of(error: LifecycleError, checker: &Checker) -> Self {
        let conflict = |code| (StatusCode::CONFLICT, code);
        let (status, code) = match &error {
            LifecycleError::Invalid(problems) => return Self::invalid(problems),
            LifecycleError::NotFound => return Self::not_found(),
            LifecycleError::EscalationDenied { missing } => {
                let more = Map::from_iter([("missing".to_owned(), json!(missing))]);
                let status = StatusCode::FORBIDDEN;
                return Self::Of(status, "escalation_denied", error.to_string(), more);
            }
            LifecycleError::NameTaken => conflict("name_taken"),
            LifecycleError::TooManyTokens => conflict("too_many_tokens"),
            LifecycleError::Revoked => conflict("token_revoked"),
            LifecycleError::Expired => conflict("token_expired"),
            LifecycleError::IdempotencyKeyReused => {
                (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused")
            }
            LifecycleError::UnexpectedCount { .. } => conflict("unexpected_count"),
            LifecycleError::RevisionMismatch => {
                (StatusCode::PRECONDITION_FAILED, "precondition_failed")
            }
            _ => return Self::Store(outage(error, checker)),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let code = match error.status() {
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            _ => "invalid_request",
        };
        Self::new(error.status(), code, error.to_string())
    }
}

impl From<Vec<FieldProblem>> for Problem {
    fn from(problems: Vec<FieldProblem>) -> Self {
        Self::invalid(&problems)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, code, detail, more) = match self {
            Self::Of(status, code, detail, more) => (status, code, detail, more),
            Self::Store(rejection) => return rejection.into_response(),
        };
        let mut body = Map::from_iter([
            ("type".to_owned(), json!("about:blank")),
            ("title".to_owned(), json!(status.canonical_reason())),
            ("status".to_owned(), json!(status.as_u16())),
            ("detail".to_owned(), json!(detail)),
            ("code".to_owned(), json!(code)),
        ]);
        body.extend(more);
        let headers = [
            (
                CONTENT_TYPE,
                HeaderValue::from_static("application/problem+json"),
            ),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        (status, headers, Value::Object(body).to_string()).into_response()
    }
}
