use axum::Extension;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::super::body::BodyError;
use super::super::outcome::{outage, refusal};
use super::super::request_log::Escalation;
use crate::lifecycle::{FieldProblem, LifecycleError};
use crate::middleware::Checker;
use crate::reject::Rejection;

/// What a caller gets who asks for something that cannot be done: `application/problem+json`
/// (RFC 9457).
#[derive(Debug)]
pub(super) enum Problem {
    Of(StatusCode, &'static str, String, Map<String, Value>),
    /// The caller may not make this change.
    Escalation(Escalation, String, Map<String, Value>),
    /// The caller is refused as the layer refuses it, or the store is unavailable.
    Rejected(Rejection),
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

    pub(super) fn method_not_allowed() -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let detail = "there is no such call on this path";
        Self::new(status, "method_not_allowed", detail)
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
        if let Some(rejection) = refusal(&error, checker) {
            return Self::Rejected(rejection);
        }
        if let Some(escalation) = Escalation::of(&error) {
            return Self::Escalation(escalation, error.to_string(), escalation_members(&error));
        }
        let conflict = |code| (StatusCode::CONFLICT, code);
        let forbidden = |code| (StatusCode::FORBIDDEN, code);
        let (status, code) = match &error {
            LifecycleError::Invalid(problems) => return Self::invalid(problems),
            LifecycleError::NotFound => return Self::not_found(),
            LifecycleError::UnknownActor => forbidden("unknown_actor"),
            LifecycleError::LastAdmin => conflict("last_admin"),
            LifecycleError::RotatedMeanwhile => conflict("rotated_meanwhile"),
            LifecycleError::PreviousSecret => {
                let status = StatusCode::PRECONDITION_REQUIRED;
                let detail = format!("{error}; send its ETag as If-Match");
                return Self::new(status, "precondition_required", detail);
            }
            LifecycleError::NameTaken => conflict("name_taken"),
            LifecycleError::TooManyTokens => conflict("too_many_tokens"),
            LifecycleError::Revoked => conflict("token_revoked"),
            LifecycleError::Expired => conflict("token_expired"),
            LifecycleError::IdempotencyKeyReused => {
                (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused")
            }
            LifecycleError::UnexpectedCount { expected, found } => {
                let more = [("expected", json!(expected)), ("found", json!(found))];
                let more = more.map(|(name, value)| (name.to_owned(), value));
                let status = StatusCode::CONFLICT;
                let detail = error.to_string();
                return Self::Of(status, "unexpected_count", detail, Map::from_iter(more));
            }
            LifecycleError::RevisionMismatch => {
                (StatusCode::PRECONDITION_FAILED, "precondition_failed")
            }
            _ => return Self::Rejected(outage(error, checker)),
        };
        Self::new(status, code, error.to_string())
    }
}

/// Returns the extra members of a denied escalation.
fn escalation_members(error: &LifecycleError) -> Map<String, Value> {
    let member = match error {
        LifecycleError::EscalationDenied { missing } => ("missing", json!(missing)),
        LifecycleError::TokensNotCovered { forbidden, .. } => ("forbidden", json!(forbidden)),
        _ => return Map::new(),
    };
    Map::from_iter([(member.0.to_owned(), member.1)])
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
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
            Self::Escalation(escalation, detail, more) => {
                let problem = Self::Of(StatusCode::FORBIDDEN, "escalation_denied", detail, more);
                return (Extension(escalation), problem).into_response();
            }
            Self::Rejected(rejection) => return rejection.into_response(),
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
