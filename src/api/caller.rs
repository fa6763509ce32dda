use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::lifecycle::{Actor, ServiceTokens};
use crate::limits::{ClientAddress, RequestOrigin};
use crate::middleware::Checker;
use crate::observe::Stopwatch;
use crate::principal::{Principal, Requirement};
use crate::reject::{Rejection, RejectionReason};
use crate::store::{ADMIN_SCOPE, Credential};

/// State that knows how to check a token.
pub(super) trait HasChecker: Send + Sync + 'static {
    fn checker(&self) -> &Checker;
}

/// The caller of a request, whom the layer accepted, with the credential that authenticates it
/// again: a body may take long to arrive, and a token may be revoked meanwhile.
pub(super) struct Caller {
    credential: Credential<'static>,
    origin: RequestOrigin,
}

impl<S: HasChecker> FromRequestParts<Arc<S>> for Caller {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<S>) -> Result<Self, Rejection> {
        let is_accepted = parts.extensions.get::<Principal>().is_some();
        let checker = state.checker();
        let credential = checker.read(&mut parts.headers)?.filter(|_| is_accepted);
        let missing = || checker.reject(RejectionReason::MissingLayer);
        let credential = credential.ok_or_else(missing)?.into_owned();
        let origin = RequestOrigin::from_extensions(&parts.extensions);
        Ok(Self { credential, origin })
    }
}

impl Caller {
    /// Authenticates the caller again, and returns the tokens as it may change them. Call it once
    /// the body is read. The registry requires the same of the caller in the transaction of each
    /// change.
    pub(super) async fn reauthenticate(
        self,
        tokens: &ServiceTokens,
        checker: &Checker,
        requirement: Option<Requirement>,
    ) -> Result<ServiceTokens, Rejection> {
        let requirement = requirement.map(Arc::new);
        let principal = self.authenticate_again(checker, requirement.clone()).await;
        let principal = principal.inspect_err(|rejection| {
            Stopwatch::start().rejected(rejection);
        })?;
        let actor = Actor::holder(principal)
            .with_credential(self.credential)
            .with_client_address(self.origin.address.map(ClientAddress::ip));
        let actor = match requirement {
            Some(requirement) => actor.with_requirement(requirement),
            None => actor,
        };
        Ok(tokens.clone().acting_for(actor))
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

/// The scopes of which a call that reads tokens needs one.
pub(super) const READ_SCOPES: [&str; 2] = ["service-tokens:read", ADMIN_SCOPE];

/// The scopes of which a call that changes tokens needs one.
pub(super) const WRITE_SCOPES: [&str; 2] = ["service-tokens:write", ADMIN_SCOPE];

/// What a call that changes tokens needs.
pub(super) fn write_requirement() -> Requirement {
    Requirement::any_scope(WRITE_SCOPES)
}
