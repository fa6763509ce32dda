use std::sync::Arc;

use http::{Extensions, HeaderMap};

use crate::observe::{self, RequestInfo};
use crate::principal::{Identity, Principal, Requirement, Roles, Scopes};
use crate::reject::{NoToken, Rejection, RejectionReason};

/// The caller of a request, as its extensions hold it.
#[derive(Clone, Copy)]
pub(super) enum CallerRef<'e> {
    Token(&'e Principal),
    Identity(&'e Identity),
}

impl<'e> CallerRef<'e> {
    pub(super) fn roles(self) -> &'e Roles {
        match self {
            Self::Token(principal) => principal.roles(),
            Self::Identity(identity) => identity.roles(),
        }
    }

    pub(super) fn scopes(self) -> &'e Scopes {
        match self {
            Self::Token(principal) => principal.scopes(),
            Self::Identity(identity) => identity.scopes(),
        }
    }
}

/// Returns the caller of a request if it meets the requirement. Logs and counts a rejection.
pub(super) fn authorize<'e>(
    requirement: Option<&Arc<Requirement>>,
    headers: &HeaderMap,
    extensions: &'e Extensions,
) -> Result<CallerRef<'e>, Rejection> {
    let checked = find_caller(extensions).and_then(|caller| {
        requirement.map_or(Ok(()), |it| check_requirement(caller, it))?;
        Ok(caller)
    });
    checked.map_err(|rejection| record(rejection, headers, extensions))
}

/// Returns the service token of a request if it meets the requirement. Logs and counts a rejection.
#[cfg(feature = "axum")]
pub(super) fn authorize_token<'e>(
    requirement: Option<&Arc<Requirement>>,
    headers: &HeaderMap,
    extensions: &'e Extensions,
) -> Result<&'e Principal, Rejection> {
    let checked = find_principal(extensions).and_then(|principal| {
        let caller = CallerRef::Token(principal);
        requirement.map_or(Ok(()), |it| check_requirement(caller, it))?;
        Ok(principal)
    });
    checked.map_err(|rejection| record(rejection, headers, extensions))
}

/// Logs and counts the rejection of a request.
pub(super) fn record(
    rejection: Rejection,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Rejection {
    let request = RequestInfo::from_parts(headers, extensions);
    observe::guard_rejected(rejection.for_request(headers), &request)
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
        check_requirement(CallerRef::Token(self), &requirement.into())
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
        let rejection = Rejection::unmet_requirements(unmet).with_principal(self);
        Err(observe::guard_rejected(rejection, &RequestInfo::default()))
    }
}

pub(super) fn check_requirement(
    caller: CallerRef<'_>,
    requirement: &Arc<Requirement>,
) -> Result<(), Rejection> {
    if requirement.is_met_by_rights(caller.roles(), caller.scopes()) {
        return Ok(());
    }
    let requirement = Arc::clone(requirement);
    Err(match caller {
        CallerRef::Token(principal) => Rejection::insufficient_scope(principal, requirement),
        CallerRef::Identity(_) => Rejection::insufficient_identity(requirement),
    })
}

/// Returns the caller, or a rejection if there is none.
pub(super) fn find_caller(extensions: &Extensions) -> Result<CallerRef<'_>, Rejection> {
    // A token outranks the identity that a layer further out accepted.
    match find_principal(extensions) {
        Ok(principal) => Ok(CallerRef::Token(principal)),
        Err(rejection) => {
            let identity = extensions.get::<NoToken>().and_then(NoToken::identity);
            identity.map(CallerRef::Identity).ok_or(rejection)
        }
    }
}

/// Returns the principal, or a rejection if the request has no service token.
fn find_principal(extensions: &Extensions) -> Result<&Principal, Rejection> {
    if let Some(principal) = extensions.get::<Principal>() {
        return Ok(principal);
    }
    Err(match extensions.get::<NoToken>() {
        Some(no_token) => no_token.reject(),
        None => Rejection::new(RejectionReason::MissingLayer).with_source(MissingLayer),
    })
}

#[derive(Debug, thiserror::Error)]
#[error("no ServiceTokenLayer in front of the guard or extractor")]
struct MissingLayer;
