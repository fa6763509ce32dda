use std::sync::Arc;

use http::request::Parts;

use crate::limits::Origin;
use crate::middleware::Checker;
use crate::observe::Stopwatch;
use crate::principal::Principal;
use crate::reject::{Rejection, RejectionReason};
use crate::store::{Cached, Credential, TokenRecord};
use crate::token::TokenId;

/// Checks tokens as the layer does, failure limit included.
pub(super) struct Inspector {
    pub(super) checker: Arc<Checker>,
}

impl Inspector {
    /// Returns who sends this request, by the token in its headers. The token must have this id, if
    /// one is given.
    pub(super) async fn caller(
        &self,
        parts: &mut Parts,
        id: Option<TokenId>,
    ) -> Result<Principal, Rejection> {
        let stopwatch = Stopwatch::start();
        let origin = Origin::from_extensions(&parts.extensions);
        let caller = self.judged_caller(parts, id, origin).await;
        match &caller {
            Ok(_) => stopwatch.accepted(),
            Err(rejection) => stopwatch.refused(rejection),
        }
        caller
    }

    async fn judged_caller(
        &self,
        parts: &mut Parts,
        id: Option<TokenId>,
        origin: Origin,
    ) -> Result<Principal, Rejection> {
        let credential = self.checker.read(&mut parts.headers)?;
        let missing = || self.checker.refuse(RejectionReason::MissingToken);
        let credential = credential.ok_or_else(missing)?;
        let (_, caller) = self.inspect(&credential, origin).await?;
        if id.is_some_and(|id| id != caller.id()) {
            return Err(self.fail(origin, RejectionReason::UnknownToken));
        }
        Ok(caller)
    }

    /// Returns what is known about a valid token, or why it is not valid.
    pub(super) async fn inspect(
        &self,
        credential: &Credential<'_>,
        origin: Origin,
    ) -> Result<(TokenRecord, Principal), Rejection> {
        let checker = &self.checker;
        let found = match checker.store.find_cached(credential) {
            Cached::Found(record) => Some(record),
            Cached::NotFound => None,
            Cached::Ask if checker.is_damaged(credential) => None,
            Cached::Ask => {
                let found = checker.look_up(credential, origin).await?;
                let principal = checker.judge_lookup(found.clone(), credential, origin)?;
                return Ok((found.expect("nothing found is no token"), principal));
            }
        };
        let judged = checker.judge(found.clone(), credential);
        let principal = judged.map_err(|rejection| checker.refuse_at_once(rejection, origin))?;
        Ok((found.expect("nothing found is no token"), principal))
    }

    /// Returns the refusal of what is not a valid token, and counts a failure.
    pub(super) fn fail(&self, origin: Origin, reason: RejectionReason) -> Rejection {
        let rejection = self.checker.refuse(reason);
        self.checker.refuse_at_once(rejection, origin)
    }
}
