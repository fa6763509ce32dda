use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};

use super::body;
use crate::lifecycle::LifecycleError;
use crate::middleware::Checker;
use crate::observe::Stopwatch;
use crate::reject::Rejection;
use crate::store::StoreError;
use crate::wire::Problem;

const EFFECTIVE_WITHIN: HeaderName = HeaderName::from_static("service-token-effective-within");

/// The parameter of a path. It is empty if the path is not UTF-8, and no token has that id.
pub(super) struct PathSegment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for PathSegment {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(path.map(|Path(text)| text).unwrap_or_default()))
    }
}

/// Creates a problem response that no cache may store.
pub(super) fn problem_response(status: StatusCode, problem: &Problem) -> Response {
    let mut response = body::write(status.into_response(), problem.to_json());
    let media_type = HeaderValue::from_static(Problem::MEDIA_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

/// Adds the header with the seconds, rounded up, after which every node sees a change.
pub(super) fn with_effective_within(within: Duration, mut response: Response) -> Response {
    let part = u64::from(within.subsec_nanos() > 0);
    let seconds = within.as_secs().saturating_add(part);
    let headers = response.headers_mut();
    headers.insert(EFFECTIVE_WITHIN, HeaderValue::from(seconds));
    response
}

/// Returns the status of a failed change.
pub(super) fn status_code(error: &LifecycleError) -> StatusCode {
    match error {
        LifecycleError::Invalid(_) | LifecycleError::IdempotencyKeyReused => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        LifecycleError::NotFound => StatusCode::NOT_FOUND,
        LifecycleError::RequirementNotMet(_)
        | LifecycleError::EscalationDenied { .. }
        | LifecycleError::OutlivesActor { .. }
        | LifecycleError::TokensNotCovered { .. }
        | LifecycleError::UnknownActor => StatusCode::FORBIDDEN,
        LifecycleError::ActorTokenRejected(_) => StatusCode::UNAUTHORIZED,
        LifecycleError::RevisionMismatch => StatusCode::PRECONDITION_FAILED,
        LifecycleError::PreviousSecret => StatusCode::PRECONDITION_REQUIRED,
        LifecycleError::Store(_) | LifecycleError::Mint(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::CONFLICT,
    }
}

/// Returns the rejection of a caller that was authenticated and lost its authority since. It equals
/// the rejection of the layer and the guards.
pub(super) fn actor_rejection(error: &LifecycleError, checker: &Checker) -> Option<Rejection> {
    let rejection = match error {
        LifecycleError::ActorTokenRejected(kind) => checker.reject_actor(*kind),
        LifecycleError::RequirementNotMet(requirement) => {
            let rejection = Rejection::missing_requirement(requirement.clone());
            rejection.with_challenges(&checker.challenges)
        }
        _ => return None,
    };
    Stopwatch::start().rejected(&rejection);
    Some(rejection)
}

/// Returns the rejection for a change that failed without a fault of the caller.
pub(super) fn unavailable_rejection(error: LifecycleError, checker: &Checker) -> Rejection {
    checker.reject_store_error(match error {
        LifecycleError::Store(error) => error,
        error => StoreError::unavailable(error),
    })
}
