use std::time::Duration;

use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::lifecycle::LifecycleError;
use crate::middleware::Checker;
use crate::observe::Stopwatch;
use crate::reject::Rejection;
use crate::store::StoreError;

const EFFECTIVE_WITHIN: HeaderName = HeaderName::from_static("service-token-effective-within");

/// Says after how long every node knows of a change, in whole seconds, rounded up.
pub(super) fn with_effective_within(within: Duration, mut response: Response) -> Response {
    let part = u64::from(within.subsec_nanos() > 0);
    let seconds = within.as_secs().saturating_add(part);
    let headers = response.headers_mut();
    headers.insert(EFFECTIVE_WITHIN, HeaderValue::from(seconds));
    response
}

/// The status that says why nothing was changed.
pub(super) fn status_code(error: &LifecycleError) -> StatusCode {
    match error {
        LifecycleError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
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

/// The refusal of a change whose caller was authenticated, and is no longer allowed to make it: the
/// same that the layer and the guards return.
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

/// The refusal of a change that could not be made, for no fault of the caller's.
pub(super) fn unavailable_rejection(error: LifecycleError, checker: &Checker) -> Rejection {
    checker.reject_store_error(match error {
        LifecycleError::Store(error) => error,
        error => StoreError::unavailable(error),
    })
}
