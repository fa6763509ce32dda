use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::body::BodyError;
use super::request_log::EscalationDenial;
use crate::lifecycle::{FieldProblem, LifecycleError};
use crate::middleware::Checker;
use crate::registry::AuthorityError;
use crate::reject::{Rejection, RejectionReason};

/// The body of an error in the format of one API.
pub(super) trait ErrorFormat: Sized + 'static {
    /// Describes an error by its status and a message for people.
    fn new(status: StatusCode, message: String) -> Self;

    /// Describes a body that cannot be used.
    fn from_body_error(error: &BodyError) -> Self {
        Self::new(error.status(), error.to_string())
    }

    /// Describes a failed change. Returns another status where the clients expect one.
    fn from_change(
        status: StatusCode,
        _code: &'static str,
        error: LifecycleError,
    ) -> (StatusCode, Self) {
        (status, Self::new(status, error.to_string()))
    }

    /// Adds the body to a response.
    fn write(self, response: Response) -> Response;

    /// Describes a rejection by the layer, a guard or a handler.
    fn from_rejection(rejection: &Rejection) -> Self {
        Self::new(rejection.status(), describe(rejection))
    }

    /// Builds the response to a rejection.
    fn reject(rejection: &Rejection) -> Response {
        let body = Self::from_rejection(rejection);
        body.write(rejection.to_response(Body::empty()))
    }
}

/// Describes a rejection for people, with the roles or scopes that are missing.
pub(super) fn describe(rejection: &Rejection) -> String {
    let Some(required) = rejection.required() else {
        return rejection.to_string();
    };
    let kind = if required.requires_scopes() {
        "scope"
    } else {
        "role"
    };
    let names: Vec<_> = required.names().collect();
    let separator = if required.requires_all() {
        " and "
    } else {
        " or "
    };
    format!("missing {kind}: {}", names.join(separator))
}

/// An error response in the format `F`.
#[derive(Debug)]
pub(super) enum ApiError<F> {
    Failed {
        status: StatusCode,
        body: F,
        escalation: Option<EscalationDenial>,
    },
    /// The layer would reject the caller, or the store is unavailable.
    Rejected(Rejection),
}

impl<F: ErrorFormat> ApiError<F> {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self::failed(status, F::new(status, message.into()))
    }

    fn failed(status: StatusCode, body: F) -> Self {
        Self::Failed {
            status,
            body,
            escalation: None,
        }
    }

    /// Creates the error of a request that cannot be read.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, LifecycleError::NotFound.to_string())
    }

    /// Creates the error of a path without a route.
    pub(super) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such path")
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "the path does not support this method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, message)
    }

    /// Creates the error of a failed change.
    pub(super) fn from_error(error: LifecycleError, checker: &Checker) -> Self {
        if let Some(rejection) = actor_rejection(&error, checker) {
            return Self::Rejected(rejection);
        }
        match error.problem() {
            Some((status, code)) => Self::change_failed(status, code, error),
            None => Self::Rejected(unavailable_rejection(error, checker)),
        }
    }

    fn change_failed(status: StatusCode, code: &'static str, error: LifecycleError) -> Self {
        let escalation = EscalationDenial::from_error(&error);
        let (status, body) = F::from_change(status, code, error);
        Self::Failed {
            status,
            body,
            escalation,
        }
    }
}

impl<F> From<Rejection> for ApiError<F> {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl<F: ErrorFormat> From<BodyError> for ApiError<F> {
    fn from(error: BodyError) -> Self {
        Self::failed(error.status(), F::from_body_error(&error))
    }
}

impl<F: ErrorFormat> From<Vec<FieldProblem>> for ApiError<F> {
    fn from(problems: Vec<FieldProblem>) -> Self {
        let error = LifecycleError::Invalid(problems);
        Self::change_failed(error.status(), error.code(), error)
    }
}

impl<F: ErrorFormat> IntoResponse for ApiError<F> {
    fn into_response(self) -> Response {
        match self {
            Self::Failed {
                status,
                body,
                escalation,
            } => {
                let mut response = body.write(status.into_response());
                if let Some(escalation) = escalation {
                    response.extensions_mut().insert(escalation);
                }
                response
            }
            Self::Rejected(rejection) => {
                let mut response = F::reject(&rejection);
                rejection.attach(response.extensions_mut());
                response
            }
        }
    }
}

/// JSON pointers to members of a request: that of the lifecycle, and that which the client sent.
pub(super) type MemberNames = [(&'static str, &'static str)];

/// Points to the members that the client sent.
pub(super) fn with_sent_names(mut error: LifecycleError, names: &MemberNames) -> LifecycleError {
    if let LifecycleError::Invalid(problems) = &mut error {
        for problem in problems {
            let sent = names.iter().find_map(|(ours, sent)| {
                let rest = problem.pointer.strip_prefix(ours)?;
                let is_member = rest.is_empty() || rest.starts_with('/');
                is_member.then(|| format!("{sent}{rest}"))
            });
            if let Some(pointer) = sent {
                problem.pointer = pointer.into();
            }
        }
    }
    error
}

/// Returns the roles and scopes that the caller's token lacks, if that is why a change was denied.
pub(super) fn missing_names(error: LifecycleError) -> Vec<String> {
    match error {
        LifecycleError::Unauthorized(AuthorityError::EscalationDenied { missing }) => missing,
        _ => Vec::new(),
    }
}

/// Returns the rejection of a caller that was authenticated and lost its authority since. It equals
/// the rejection of the layer and the guards.
fn actor_rejection(error: &LifecycleError, checker: &Checker) -> Option<Rejection> {
    let LifecycleError::Unauthorized(error) = error else {
        return None;
    };
    let rejection = match error {
        AuthorityError::ActorTokenRejected(kind) => checker.reject_actor(*kind),
        AuthorityError::RequirementNotMet(requirement) => {
            let rejection = Rejection::unmet_requirements(vec![requirement.clone()]);
            rejection.with_challenges(&checker.challenges)
        }
        _ => return None,
    };
    checker.outcomes.rejected(&rejection);
    Some(rejection)
}

/// Returns the rejection for a change that failed without a fault of the caller.
pub(super) fn unavailable_rejection(error: LifecycleError, checker: &Checker) -> Rejection {
    match error {
        LifecycleError::Store(error) => checker.reject_store_error(error),
        error => checker
            .reject(unavailable_reason(&error))
            .with_source(error),
    }
}

fn unavailable_reason(error: &LifecycleError) -> RejectionReason {
    match error {
        LifecycleError::ActorCheck(_) => RejectionReason::ActorCheckUnavailable,
        LifecycleError::OwnerPolicies(_) => RejectionReason::OwnerPoliciesUnavailable,
        LifecycleError::Mint(_) => RejectionReason::NoRandomBytes,
        _ => RejectionReason::StoreUnavailable,
    }
}
