use std::sync::Arc;

use http::request::Parts;

use super::failure_limit::{Client, FailureLimit};
use crate::middleware::Checker;
use crate::observe::Stopwatch;
use crate::principal::Principal;
use crate::reject::{Rejection, RejectionReason};
use crate::store::{Cached, Credential, TokenRecord};
use crate::token::TokenId;

/// Finds out what a token is worth, as the layer does, and bears with only so many that nobody
/// knows.
pub(super) struct Inspector {
    pub(super) checker: Arc<Checker>,
    pub(super) limit: Option<FailureLimit>,
}

impl Inspector {
    /// Whom the failures of this request are put down to.
    pub(super) fn client(&self, parts: &Parts) -> Client {
        let limit = self.limit.as_ref();
        limit.map_or(Client::Unknown, |limit| limit.client(parts))
    }

    /// Who sends this request, by the token in its headers. The token must have this id, if one is
    /// given.
    pub(super) async fn caller(
        &self,
        parts: &mut Parts,
        id: Option<TokenId>,
    ) -> Result<Principal, Rejection> {
        let stopwatch = Stopwatch::start();
        let caller = self.judged_caller(parts, id).await;
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
    ) -> Result<Principal, Rejection> {
        let client = self.client(parts);
        let credential = self.checker.read(&mut parts.headers)?;
        let missing = || self.checker.refuse(RejectionReason::MissingToken);
        let credential = credential.ok_or_else(missing)?;
        let (_, caller) = self.inspect(&credential, client).await?;
        if id.is_some_and(|id| id != caller.id()) {
            return Err(self.fail(client, RejectionReason::UnknownToken));
        }
        Ok(caller)
    }

    /// What is known about a good token, or why it is none.
    pub(super) async fn inspect(
        &self,
        credential: &Credential<'_>,
        client: Client,
    ) -> Result<(TokenRecord, Principal), Rejection> {
        let found = match self.checker.store.find_cached(credential) {
            Cached::Found(record) => Some(record),
            Cached::NotFound => None,
            Cached::Ask if self.checker.is_damaged(credential) => None,
            Cached::Ask => {
                self.admit(client)?;
                let found = self.checker.store.find(credential).await;
                found.map_err(|error| self.checker.unavailable(error))?
            }
        };
        let judged = self.checker.judge(found.clone(), credential);
        match (found, judged) {
            (Some(record), Ok(principal)) => Ok((record, principal)),
            (_, Err(rejection)) if rejection.token_id().is_some() => Err(rejection),
            (_, Err(rejection)) => Err(self.fail(client, rejection.reason())),
            (None, Ok(_)) => unreachable!("nothing found is no token"),
        }
    }

    /// The refusal of a token that nobody knows.
    pub(super) fn fail(&self, client: Client, reason: RejectionReason) -> Rejection {
        let counted = self.limit.as_ref().map(|limit| limit.count(client));
        match counted {
            Some(Err(wait)) => Rejection::rate_limited(wait),
            _ => self.checker.refuse(reason),
        }
    }

    fn admit(&self, client: Client) -> Result<(), Rejection> {
        let looked = self.limit.as_ref().map(|limit| limit.look(client));
        looked.unwrap_or(Ok(())).map_err(Rejection::rate_limited)
    }
}
