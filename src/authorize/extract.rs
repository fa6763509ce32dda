use std::marker::PhantomData;
use std::ops::Deref;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;

use super::caller::Caller;
use super::guard::{authorize, authorize_token};
use crate::principal::{Principal, Requirement};
use crate::reject::{NoToken, Rejection};

/// Extracts the service token of the caller. The rejection is 401 if the request has none (behind a
/// layer that is optional or accepts [identities](crate::ServiceTokenLayer::with_identity)), and 500
/// if there is no [`ServiceTokenLayer`](crate::ServiceTokenLayer) in front.
impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        authorize_token(None, &parts.headers, &parts.extensions).cloned()
    }
}

/// Extracts the service token of the caller, or `None` if the request has none. The rejection is 500 if there is no [`ServiceTokenLayer`](crate::ServiceTokenLayer) in front.
impl<S: Sync> OptionalFromRequestParts<S> for Principal {
    type Rejection = Rejection;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> Result<Option<Self>, Self::Rejection> {
        let known = parts.extensions.get::<Self>().is_some();
        if !known && parts.extensions.get::<NoToken>().is_some() {
            return Ok(None);
        }
        <Self as FromRequestParts<S>>::from_request_parts(parts, state)
            .await
            .map(Some)
    }
}

/// Extracts the caller, with a service token or an
/// [identity](crate::ServiceTokenLayer::with_identity). The rejection is 401 if the request has
/// neither (behind an optional layer), and 500 if there is no
/// [`ServiceTokenLayer`](crate::ServiceTokenLayer) in front.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        authorize(None, &parts.headers, &parts.extensions).map(Self::from)
    }
}

/// Extracts the caller, or `None` if the request has neither a service token nor an identity (behind
/// an optional layer). The rejection is 500 if there is no
/// [`ServiceTokenLayer`](crate::ServiceTokenLayer) in front.
impl<S: Sync> OptionalFromRequestParts<S> for Caller {
    type Rejection = Rejection;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> Result<Option<Self>, Self::Rejection> {
        let extensions = &parts.extensions;
        let no_token = extensions.get::<NoToken>();
        let is_anonymous = no_token.is_some_and(|it| it.identity().is_none());
        if is_anonymous && extensions.get::<Principal>().is_none() {
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

/// Extractor of a caller that meets an [`AccessPolicy`]: a [`Principal`], or a [`Caller`] if the type
/// says so.
///
/// ```
/// use tower_service_token::authorize::{AccessPolicy, Authorized, Caller};
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
///     format!("deployed by token {}", principal.id())
/// }
///
/// // Also accepts an identity, such as a user with a session.
/// async fn preview(caller: Authorized<Deploy, Caller>) -> String {
///     format!("previewed by {}", caller.name())
/// }
/// # use axum::routing::{get, post};
/// # let _ = axum::Router::<()>::new().route("/", post(deploy)).route("/preview", get(preview));
/// ```
#[derive(Clone, Debug)]
pub struct Authorized<P, C = Principal> {
    caller: C,
    policy: PhantomData<fn() -> P>,
}

impl<P> Authorized<P> {
    /// Returns the principal.
    pub fn into_principal(self) -> Principal {
        self.caller
    }
}

impl<P> Authorized<P, Caller> {
    /// Returns the caller.
    pub fn into_caller(self) -> Caller {
        self.caller
    }
}

impl<P, C> Authorized<P, C> {
    fn new(caller: C) -> Self {
        let policy = PhantomData;
        Self { caller, policy }
    }
}

impl<P, C> Deref for Authorized<P, C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.caller
    }
}

impl<P: AccessPolicy, S: Sync> FromRequestParts<S> for Authorized<P> {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let requirement = Some(&P::requirement().into());
        let principal = authorize_token(requirement, &parts.headers, &parts.extensions)?;
        Ok(Self::new(principal.clone()))
    }
}

impl<P: AccessPolicy, S: Sync> FromRequestParts<S> for Authorized<P, Caller> {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let requirement = Some(&P::requirement().into());
        let caller = authorize(requirement, &parts.headers, &parts.extensions)?;
        Ok(Self::new(caller.into()))
    }
}
