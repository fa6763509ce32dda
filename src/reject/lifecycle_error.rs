//! The response to a request that failed with a [`LifecycleError`].

use http::StatusCode;

use super::RejectionReason;
use crate::lifecycle::LifecycleError;
use crate::registry::AuthorityError;

impl LifecycleError {
    /// Returns the status of the response to a request that failed with this error, as in the
    /// management API: 422 for fields that break rules, 404 for an unknown token, 409 for a conflict,
    /// 412 for another revision, 401 and 403 for a lack of authority, 503 if the store, the check of the
    /// actor or the policies of owners are unavailable.
    pub fn status(&self) -> StatusCode {
        match self.kind() {
            Kind::Problem(status, _) => status,
            Kind::Rejection(reason) => reason.status(),
        }
    }

    /// Returns the `code` of the response, such as `name_taken`.
    pub fn code(&self) -> &'static str {
        match self.kind() {
            Kind::Problem(_, code) => code,
            Kind::Rejection(reason) => reason.code(),
        }
    }

    /// Returns the status and the `code`, or `None` if the response is that of a rejection.
    #[cfg(feature = "api")]
    pub(crate) fn problem(&self) -> Option<(StatusCode, &'static str)> {
        match self.kind() {
            Kind::Problem(status, code) => Some((status, code)),
            Kind::Rejection(_) => None,
        }
    }

    fn kind(&self) -> Kind {
        let (status, code) = match self {
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_fields"),
            Self::IdempotencyKeyReused => {
                (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused")
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::RevisionMismatch => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
            Self::LastAdmin => (StatusCode::CONFLICT, "last_admin"),
            Self::ConcurrentRotation => (StatusCode::CONFLICT, "rotated_meanwhile"),
            Self::AmbiguousNumber => (StatusCode::CONFLICT, "ambiguous_number"),
            Self::NameTaken => (StatusCode::CONFLICT, "name_taken"),
            Self::DigestTaken => (StatusCode::CONFLICT, "digest_taken"),
            Self::TooManyTokens => (StatusCode::CONFLICT, "too_many_tokens"),
            Self::Revoked => (StatusCode::CONFLICT, "token_revoked"),
            Self::Expired => (StatusCode::CONFLICT, "token_expired"),
            Self::UnexpectedCount { .. } => (StatusCode::CONFLICT, "unexpected_count"),
            Self::AlreadyCreated(_) => (StatusCode::CONFLICT, "already_created"),
            Self::AlreadyRotated(_) => (StatusCode::CONFLICT, "already_rotated"),
            Self::UnknownActor => (StatusCode::FORBIDDEN, "unknown_actor"),
            Self::TokensNotCovered { .. } => (StatusCode::FORBIDDEN, "escalation_denied"),
            Self::Unauthorized(error) => return authority_kind(error),
            Self::ActorCheck(_) => {
                return Kind::Rejection(RejectionReason::ActorCheckUnavailable);
            }
            Self::OwnerPolicies(_) => {
                return Kind::Rejection(RejectionReason::OwnerPoliciesUnavailable);
            }
            Self::Mint(_) => return Kind::Rejection(RejectionReason::NoRandomBytes),
            Self::Store(error) => {
                return Kind::Rejection(RejectionReason::from(error.kind()).of_change());
            }
        };
        Kind::Problem(status, code)
    }
}

/// The status and the `code` of a problem, or the reason of a rejection that the layer or a guard
/// has too.
enum Kind {
    Problem(StatusCode, &'static str),
    Rejection(RejectionReason),
}

fn authority_kind(error: &AuthorityError) -> Kind {
    match error {
        AuthorityError::ActorTokenRejected(kind) => Kind::Rejection(RejectionReason::from(*kind)),
        AuthorityError::ActorRejected => Kind::Problem(StatusCode::UNAUTHORIZED, "actor_rejected"),
        AuthorityError::RequirementNotMet(_) => Kind::Rejection(RejectionReason::InsufficientScope),
        AuthorityError::EscalationDenied { .. } | AuthorityError::OutlivesActor { .. } => {
            Kind::Problem(StatusCode::FORBIDDEN, "escalation_denied")
        }
        AuthorityError::PreviousSecret => {
            Kind::Problem(StatusCode::PRECONDITION_REQUIRED, "precondition_required")
        }
    }
}

/// Responds with `application/problem+json` (RFC 9457), as the management API does.
///
/// If the caller is not authorized any more or the store is unavailable, the response is that of a
/// [`Rejection`](super::Rejection), which is in its extensions with the cause. It is not logged.
///
/// ```
/// use axum::extract::{Path, State};
/// use tower_service_token::lifecycle::LifecycleError;
/// use tower_service_token::token::TokenId;
/// use tower_service_token::{Principal, ServiceTokens};
///
/// async fn revoke(
///     State(tokens): State<ServiceTokens>,
///     caller: Principal,
///     Path(id): Path<TokenId>,
/// ) -> Result<(), LifecycleError> {
///     tokens.acting_for(caller).revoke(id).await?;
///     Ok(())
/// }
/// # let _: axum::Router = axum::Router::new()
/// #     .route("/tokens/{id}", axum::routing::delete(revoke))
/// #     .with_state(ServiceTokens::new(tower_service_token::MemoryStore::new()));
/// ```
#[cfg(feature = "axum")]
impl axum_core::response::IntoResponse for LifecycleError {
    fn into_response(self) -> axum_core::response::Response {
        match self.kind() {
            Kind::Problem(..) => response::of_problem(self),
            Kind::Rejection(reason) => response::rejection(reason, self).into_response(),
        }
    }
}

#[cfg(feature = "axum")]
mod response {
    use axum_core::response::{IntoResponse, Response};
    use http::header::{CACHE_CONTROL, CONTENT_TYPE};

    use super::super::{Rejection, RejectionReason};
    use crate::lifecycle::{LifecycleError, Patch};
    use crate::registry::AuthorityError;
    use crate::wire::Problem;

    pub(super) fn rejection(reason: RejectionReason, error: LifecycleError) -> Rejection {
        match error {
            LifecycleError::Unauthorized(AuthorityError::RequirementNotMet(requirement)) => {
                Rejection::unmet_requirements(vec![requirement])
            }
            LifecycleError::Unauthorized(_) => Rejection::new(reason),
            LifecycleError::Store(error) => Rejection::from(error).of_change(),
            error => Rejection::new(reason).with_source(error),
        }
    }

    pub(super) fn of_problem(error: LifecycleError) -> Response {
        let status = error.status();
        let mut problem = Problem::new(status, error.code(), error.to_string());
        match error {
            LifecycleError::Invalid(problems) => {
                problem.detail = "fields break rules".into();
                problem.errors = Some(problems);
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
        let headers = [
            (CONTENT_TYPE, Problem::MEDIA_TYPE),
            (CACHE_CONTROL, "no-store"),
        ];
        (status, headers, problem.to_json()).into_response()
    }
}
