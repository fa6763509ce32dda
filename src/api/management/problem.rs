use axum::Extension;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::super::body::BodyError;
use super::super::lifecycle_response::{actor_rejection, unavailable_rejection};
use super::super::request_log::EscalationDenial;
use crate::lifecycle::{FieldProblem, LifecycleError};
use crate::middleware::Checker;
use crate::reject::Rejection;

/// What a caller gets who asks for something that cannot be done: `application/problem+json`
/// (RFC 9457).
#[derive(Debug)]
pub(super) enum Problem {
    Details(StatusCode, &'static str, String, Map<String, Value>),
    /// The caller may not make this change.
    EscalationDenial(EscalationDenial, String, Map<String, Value>),
    /// The caller is refused as the layer refuses it, or the store is unavailable.
    Rejected(Rejection),
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self::Details(status, code, detail.into(), Map::new())
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
        let extensions = Map::from_iter([("errors".to_owned(), Value::Array(errors))]);
        Self::Details(
            status,
            "invalid_fields",
            "fields break rules".into(),
            extensions,
        )
    }

    /// What became of a change.
    pub(super) fn from_error(error: LifecycleError, checker: &Checker) -> Self {
        if let Some(rejection) = actor_rejection(&error, checker) {
            return Self::Rejected(rejection);
        }
        if let Some(escalation) = EscalationDenial::from_error(&error) {
            return Self::EscalationDenial(
                escalation,
                error.to_string(),
                escalation_members(&error),
            );
        }
        let conflict = |code| (StatusCode::CONFLICT, code);
        let forbidden = |code| (StatusCode::FORBIDDEN, code);
        let (status, code) = match &error {
            LifecycleError::Invalid(problems) => return Self::invalid(problems),
            LifecycleError::NotFound => return Self::not_found(),
            LifecycleError::UnknownActor => forbidden("unknown_actor"),
            LifecycleError::LastAdmin => conflict("last_admin"),
            LifecycleError::ConcurrentRotation => conflict("rotated_meanwhile"),
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
                let extensions = [("expected", json!(expected)), ("found", json!(found))];
                let extensions = extensions.map(|(name, value)| (name.to_owned(), value));
                let status = StatusCode::CONFLICT;
                let detail = error.to_string();
                return Self::Details(
                    status,
                    "unexpected_count",
                    detail,
                    Map::from_iter(extensions),
                );
            }
            LifecycleError::RevisionMismatch => {
                (StatusCode::PRECONDITION_FAILED, "precondition_failed")
            }
            _ => return Self::Rejected(unavailable_rejection(error, checker)),
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
        let (status, code, detail, extensions) = match self {
            Self::Details(status, code, detail, extensions) => (status, code, detail, extensions),
            Self::EscalationDenial(escalation, detail, extensions) => {
                let problem = Self::Details(
                    StatusCode::FORBIDDEN,
                    "escalation_denied",
                    detail,
                    extensions,
                );
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
        body.extend(extensions);
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
