use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::state::ApiState;
use crate::lifecycle::{Actor, ServiceTokens};
use crate::limits::{ClientAddress, RequestOrigin};
use crate::middleware::Checker;
use crate::observe::Stopwatch;
use crate::principal::{Principal, Requirement};
use crate::reject::{Rejection, RejectionReason};
use crate::store::Credential;

/// The caller of a request that the layer accepted, with its credential. A handler checks the
/// credential again after it read the body, which may take long enough for a token to be revoked.
pub(super) struct Caller {
    credential: Credential<'static>,
    origin: RequestOrigin,
}

impl<X: Send + Sync> FromRequestParts<Arc<ApiState<X>>> for Caller {
    type Rejection = Rejection;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<ApiState<X>>,
    ) -> Result<Self, Rejection> {
        let is_accepted = parts.extensions.get::<Principal>().is_some();
        let checker = &state.checker;
        let credential = checker.read(&mut parts.headers)?.filter(|_| is_accepted);
        let missing = || checker.reject(RejectionReason::MissingLayer);
        let credential = credential.ok_or_else(missing)?.into_owned();
        let origin = RequestOrigin::from_extensions(&parts.extensions);
        Ok(Self { credential, origin })
    }
}

impl Caller {
    /// Authenticates the caller again and returns the tokens, with the caller as the actor of each
    /// change. Call it after reading the body. The registry checks the same requirement in the
    /// transaction of each change.
    pub(super) async fn tokens<X>(
        self,
        state: &ApiState<X>,
        requirement: Option<Requirement>,
    ) -> Result<ServiceTokens, Rejection> {
        let requirement = requirement.map(Arc::new);
        let principal = self
            .authenticate_again(&state.checker, requirement.clone())
            .await
            .inspect_err(|rejection| Stopwatch::start().rejected(rejection))?;
        let actor = Actor::holder(principal)
            .with_credential(self.credential)
            .with_client_address(self.origin.address.map(ClientAddress::ip));
        let actor = match requirement {
            Some(requirement) => actor.with_requirement(requirement),
            None => actor,
        };
        Ok(state.tokens.clone().acting_for(actor))
    }

    async fn authenticate_again(
        &self,
        checker: &Checker,
        requirement: Option<Arc<Requirement>>,
    ) -> Result<Principal, Rejection> {
        let principal = checker
            .reauthenticate(&self.credential, self.origin)
            .await?;
        if let Some(requirement) = requirement {
            let allowed = principal.require(requirement);
            allowed.map_err(|rejection| rejection.with_challenges(&checker.challenges))?;
        }
        Ok(principal)
    }
}
