use std::sync::Arc;

use http::request::Parts;

use crate::limits::RequestOrigin;
use crate::middleware::Checker;
use crate::observe::LookupTimer;
use crate::principal::Principal;
use crate::reject::{Rejection, RejectionReason};
use crate::store::{Cached, Credential, TokenRecord};
use crate::token::DisplayId;

/// Checks tokens as the layer does, including the failure limit.
pub(super) struct Inspector {
    pub(super) checker: Arc<Checker>,
}

impl Inspector {
    /// Authenticates the request by the token in its headers. If an id is given, the token must have
    /// it, or display it.
    pub(super) async fn authenticate(
        &self,
        parts: &mut Parts,
        id: Option<DisplayId>,
    ) -> Result<Principal, Rejection> {
        let origin = RequestOrigin::from_extensions(&parts.extensions);
        let caller = self.authenticate_uncounted(parts, id, origin).await;
        match &caller {
            Ok(_) => self.checker.outcomes.accepted(),
            Err(rejection) => self.checker.outcomes.rejected(rejection),
        }
        caller
    }

    async fn authenticate_uncounted(
        &self,
        parts: &mut Parts,
        id: Option<DisplayId>,
        origin: RequestOrigin,
    ) -> Result<Principal, Rejection> {
        let credential = self.checker.read(&mut parts.headers)?;
        let missing = || self.checker.reject(RejectionReason::MissingToken);
        let credential = credential.ok_or_else(missing)?;
        let (_, caller) = self.inspect(&credential, origin).await?;
        if id.is_some_and(|id| !is_id_of(&id, &caller)) {
            return Err(self.record_failure(origin, RejectionReason::UnknownToken));
        }
        Ok(caller)
    }

    /// Returns the record of a valid token, or why the token is not valid.
    pub(super) async fn inspect(
        &self,
        credential: &Credential<'_>,
        origin: RequestOrigin,
    ) -> Result<(TokenRecord, Principal), Rejection> {
        let checker = &self.checker;
        let found = match checker.store.find_cached(credential) {
            Cached::Found(record) => Some(record),
            Cached::NotFound => None,
            Cached::Miss if checker.is_damaged(credential) => None,
            Cached::Miss => {
                let timer = LookupTimer::start();
                let found = checker.look_up(credential, origin).await;
                let evaluated = found.and_then(|found| {
                    let principal = checker.evaluate_lookup(found.clone(), credential, origin)?;
                    Ok((found.expect("a token was accepted"), principal))
                });
                timer.finish(evaluated.as_ref().map(|(_, principal)| principal));
                return evaluated;
            }
        };
        let evaluated = checker.evaluate(found.clone(), credential);
        let principal =
            evaluated.map_err(|rejection| checker.reject_without_lookup(rejection, origin))?;
        Ok((found.expect("a token was accepted"), principal))
    }

    /// Counts a failure and returns the rejection.
    pub(super) fn record_failure(
        &self,
        origin: RequestOrigin,
        reason: RejectionReason,
    ) -> Rejection {
        let rejection = self.checker.reject(reason);
        self.checker.reject_without_lookup(rejection, origin)
    }
}

fn is_id_of(id: &DisplayId, caller: &Principal) -> bool {
    *id == DisplayId::from(caller.id()) || *id == caller.display_id()
}
