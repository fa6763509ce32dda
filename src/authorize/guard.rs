use std::sync::Arc;

use http::{Extensions, HeaderMap};

use crate::observe::{self, RequestInfo};
use crate::principal::{Principal, Requirement};
use crate::reject::{Anonymous, Rejection, RejectionReason};

/// What a guard demands.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    requirement: Arc<Requirement>,
}

impl Guard {
    pub(super) fn new(requirement: Requirement) -> Self {
        Self {
            requirement: Arc::new(requirement),
        }
    }

    /// Rejects and records a request unless its caller meets the requirement.
    pub(super) fn check(
        &self,
        extensions: &Extensions,
        headers: &HeaderMap,
    ) -> Result<(), Rejection> {
        require_principal(extensions)
            .and_then(|principal| check_requirement(principal, &self.requirement))
            .map_err(|rejection| report_rejection(rejection, headers, extensions))
    }
}

impl Principal {
    /// Refuses unless the requirement is met, from within a handler.
    ///
    /// With the feature `axum` the [`Rejection`] is a response, so `?` does in a handler:
    ///
    /// ```
    /// use tower_service_token::Principal;
    /// use tower_service_token::principal::Requirement;
    /// use tower_service_token::reject::Rejection;
    ///
    /// async fn deploy(principal: Principal) -> Result<&'static str, Rejection> {
    ///     principal.require(Requirement::all_scopes(["deployments:create"]))?;
    ///     Ok("deployed")
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the 403 rejection, already logged and counted.
    pub fn require(&self, requirement: impl Into<Arc<Requirement>>) -> Result<(), Rejection> {
        check_requirement(self, &requirement.into())
            .map_err(|rejection| observe::guard_rejected(rejection, &RequestInfo::default()))
    }
}

pub(super) fn check_requirement(
    principal: &Principal,
    requirement: &Arc<Requirement>,
) -> Result<(), Rejection> {
    if requirement.is_met_by(principal) {
        return Ok(());
    }
    Err(Rejection::insufficient_scope(
        principal,
        Arc::clone(requirement),
    ))
}

/// Returns the caller, or the rejection if there is none.
pub(super) fn require_principal(extensions: &Extensions) -> Result<&Principal, Rejection> {
    if let Some(principal) = extensions.get::<Principal>() {
        return Ok(principal);
    }
    Err(match extensions.get::<Anonymous>() {
        Some(Anonymous(challenges)) => {
            Rejection::new(RejectionReason::MissingToken).with_challenges(challenges)
        }
        None => Rejection::new(RejectionReason::MissingLayer).with_source(MissingLayer),
    })
}

pub(super) fn report_rejection(
    rejection: Rejection,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Rejection {
    let rejection = rejection.for_request(headers);
    observe::guard_rejected(rejection, &RequestInfo::from_parts(headers, extensions))
}

#[derive(Debug, thiserror::Error)]
#[error("a guard or extractor needs a ServiceTokenLayer around it, and there is none")]
struct MissingLayer;
