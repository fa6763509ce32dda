use std::marker::PhantomData;
use std::ops::Deref;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;

use super::guard::authorize;
use crate::principal::{Principal, Requirement};
use crate::reject::{Anonymous, Rejection};

/// Extracts the caller. The rejection is 401 if the request has no credential (behind an optional
/// layer), and 500 if there is no [`ServiceTokenLayer`](crate::ServiceTokenLayer) in front.
impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        authorize(None, &parts.headers, &parts.extensions).cloned()
    }
}

/// Extracts the caller, or `None` if the request has no credential (behind an optional layer). The
/// rejection is 500 if there is no [`ServiceTokenLayer`](crate::ServiceTokenLayer) in front.
impl<S: Sync> OptionalFromRequestParts<S> for Principal {
    type Rejection = Rejection;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> Result<Option<Self>, Self::Rejection> {
        let known = parts.extensions.get::<Self>().is_some();
        if !known && parts.extensions.get::<Anonymous>().is_some() {
            return Ok(None);
        }
        <Self as FromRequestParts<S>>::from_request_parts(parts, state)
            .await
            .map(Some)
    }
}

/// The requirement of an [`Authorized`] extractor.
pub trait AccessPolicy: 'static {
    /// Returns the required roles or scopes. Called once per request.
    fn requirement() -> Requirement;
}

/// Extractor of a [`Principal`] that meets an [`AccessPolicy`].
///
/// ```
/// use tower_service_token::authorize::{Authorized, AccessPolicy};
/// use tower_service_token::principal::Requirement;
///
/// struct Deploy;
///
/// impl AccessPolicy for Deploy {
///     fn requirement() -> Requirement {
///         Requirement::all_scopes(["deployments:create"])
///     }
/// }
///
/// async fn deploy(principal: Authorized<Deploy>) -> String {
///     format!("deployed by {}", principal.name())
/// }
/// # let _ = axum::Router::<()>::new().route("/", axum::routing::post(deploy));
/// ```
#[derive(Clone, Debug)]
pub struct Authorized<P> {
    principal: Principal,
    policy: PhantomData<fn() -> P>,
}

impl<P> Authorized<P> {
    /// Returns the caller.
    pub fn into_principal(self) -> Principal {
        self.principal
    }
}

impl<P> Deref for Authorized<P> {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.principal
    }
}

impl<P: AccessPolicy, S: Sync> FromRequestParts<S> for Authorized<P> {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let requirement = Some(&P::requirement().into());
        let principal = authorize(requirement, &parts.headers, &parts.extensions)?;
        Ok(Self {
            principal: principal.clone(),
            policy: PhantomData,
        })
    }
}
