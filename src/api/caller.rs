use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use super::actor::RequestActor;
use super::state::ApiState;
use crate::lifecycle::{Actor, Holder, ServiceTokens};
use crate::limits::{ClientAddress, RequestOrigin};
use crate::middleware::Checker;
use crate::principal::{Principal, Requirement};
use crate::reject::{Rejection, RejectionReason};
use crate::store::Credential;

/// The parameter of a path. It is empty if the path is not UTF-8, and no token has that id.
pub(super) struct PathSegment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for PathSegment {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(path.map(|Path(text)| text).unwrap_or_default()))
    }
}

/// The caller of a request.
pub(super) enum Caller {
    /// The holder of a token that the layer accepted, with its credential. A handler checks the
    /// credential again after it read the body, which may take long enough for a token to be revoked.
    Holder {
        credential: Credential<'static>,
        origin: RequestOrigin,
    },
    /// The actor that the application determined. It is checked again in each change.
    Application(Actor),
}

impl<X: Send + Sync> FromRequestParts<Arc<ApiState<X>>> for Caller {
    type Rejection = Rejection;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<ApiState<X>>,
    ) -> Result<Self, Rejection> {
        if let Some(RequestActor(actor)) = parts.extensions.get() {
            return Ok(Self::Application(actor.clone()));
        }
        let is_accepted = parts.extensions.get::<Principal>().is_some();
        let checker = &state.checker;
        let credential = checker.read(&mut parts.headers)?.filter(|_| is_accepted);
        let missing = || checker.reject(RejectionReason::MissingLayer);
        let credential = credential.ok_or_else(missing)?.into_owned();
        let origin = RequestOrigin::from_extensions(&parts.extensions);
        Ok(Self::Holder { credential, origin })
    }
}

impl Caller {
    /// Authenticates the caller again and returns the tokens, with the caller as the actor of each
    /// change. Call it after reading the body. The registry checks the same requirement in the
    /// transaction of each change.
    pub(super) async fn tokens_to_change<X>(
        self,
        state: &ApiState<X>,
        requirement: Option<Requirement>,
    ) -> Result<ServiceTokens, Rejection> {
        let tokens = self.tokens(state, requirement).await;
        tokens.map_err(Rejection::of_change)
    }

    /// As [`tokens_to_change`](Self::tokens_to_change), for a call that only reads.
    pub(super) async fn tokens<X>(
        self,
        state: &ApiState<X>,
        requirement: Option<Requirement>,
    ) -> Result<ServiceTokens, Rejection> {
        let requirement = requirement.map(Arc::new);
        let actor = match self {
            Self::Application(actor) => actor,
            Self::Holder { credential, origin } => {
                let checker = &state.checker;
                let principal = reauthenticate(checker, &credential, origin, requirement.clone());
                let holder = Holder::new(principal.await?).with_credential(credential);
                Actor::from(holder).with_client_address(origin.address.map(ClientAddress::ip))
            }
        };
        let actor = match requirement {
            Some(requirement) => actor.with_default_requirement(requirement),
            None => actor,
        };
        Ok(state.tokens.clone().acting_for(actor))
    }
}

/// The tokens that the caller of a request sees, whom the layer or the application accepted.
pub(super) struct Reader(pub(super) ServiceTokens);

impl<X: Send + Sync> FromRequestParts<Arc<ApiState<X>>> for Reader {
    type Rejection = Rejection;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<ApiState<X>>,
    ) -> Result<Self, Rejection> {
        if let Some(RequestActor(actor)) = parts.extensions.get() {
            return Ok(Self(state.tokens.clone().acting_for(actor.clone())));
        }
        let principal = parts.extensions.get::<Principal>().cloned();
        let missing = || state.checker.reject(RejectionReason::MissingLayer);
        let principal = principal.ok_or_else(missing)?;
        // The layer accepted the token just before.
        Ok(Self(
            state.tokens.clone().acting_for(principal).skip_read_check(),
        ))
    }
}

/// Authenticates a caller again that was accepted before its body was read.
pub(super) async fn reauthenticate(
    checker: &Checker,
    credential: &Credential<'_>,
    origin: RequestOrigin,
    requirement: Option<Arc<Requirement>>,
) -> Result<Principal, Rejection> {
    let principal = checker.reauthenticate(credential, origin).await;
    let principal = principal.and_then(|principal| {
        let allowed = requirement.map_or(Ok(()), |requirement| principal.require(requirement));
        let allowed = allowed.map_err(|rejection| rejection.with_challenges(&checker.challenges));
        allowed.map(|()| principal)
    });
    principal.inspect_err(|rejection| checker.outcomes.rejected(rejection))
}
