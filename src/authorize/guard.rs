use std::sync::Arc;

use http::{Extensions, HeaderMap};

use crate::observe::{self, RequestInfo};
use crate::principal::{Principal, Requirement};
use crate::reject::{Anonymous, Rejection, RejectionReason};

/// Returns the caller of a request if it meets the requirement. Logs and counts a rejection.
pub(super) fn authorize<'e>(
    requirement: Option<&Arc<Requirement>>,
    headers: &HeaderMap,
    extensions: &'e Extensions,
) -> Result<&'e Principal, Rejection> {
    let checked = require_principal(extensions).and_then(|principal| {
        requirement.map_or(Ok(()), |it| check_requirement(principal, it))?;
        Ok(principal)
    });
    checked.map_err(|rejection| {
        let request = RequestInfo::from_parts(headers, extensions);
        observe::guard_rejected(rejection.for_request(headers), &request)
    })
}

impl Principal {
    /// Returns an error unless the principal meets the requirement.
    ///
    /// With the feature `axum`, the [`Rejection`] is a response, so a handler can return it with `?`:
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
    /// Returns a rejection with status 403, which is already logged and counted.
    pub fn require(&self, requirement: impl Into<Arc<Requirement>>) -> Result<(), Rejection> {
        check_requirement(self, &requirement.into())
            .map_err(|rejection| observe::guard_rejected(rejection, &RequestInfo::default()))
    }

    /// As [`require`](Self::require), for all of these requirements. The rejection has each of them
    /// that is not met.
    #[cfg(feature = "api")]
    pub(crate) fn require_all(
        &self,
        requirements: impl Iterator<Item = Arc<Requirement>>,
    ) -> Result<(), Rejection> {
        let unmet: Vec<_> = requirements.filter(|it| !it.is_met_by(self)).collect();
        if unmet.is_empty() {
            return Ok(());
        }
        let rejection = Rejection::missing_requirements(unmet).with_token_id(Some(self.id()));
        Err(observe::guard_rejected(rejection, &RequestInfo::default()))
    }
}

fn check_requirement(
    principal: &Principal,
    requirement: &Arc<Requirement>,
) -> Result<(), Rejection> {
    if requirement.is_met_by(principal) {
        return Ok(());
    }
    let requirement = Arc::clone(requirement);
    Err(Rejection::insufficient_scope(principal, requirement))
}

/// Returns the caller, or a rejection if there is none.
fn require_principal(extensions: &Extensions) -> Result<&Principal, Rejection> {
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

#[derive(Debug, thiserror::Error)]
#[error("no ServiceTokenLayer in front of the guard or extractor")]
struct MissingLayer;
