use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Extensions, HeaderMap};

use super::additions::ResponseAdditions;
use crate::audit::AuditSink;
use crate::clock::Clock;
use crate::header::{CredentialError, CredentialSources};
use crate::limits::{OptionalFailureLimit, RequestOrigin};
use crate::observe::{self, LookupTimer, Outcomes};
use crate::principal::{Identity, Principal};
use crate::registry::LastUsed;
use crate::reject::{Challenges, NoToken, Rejection, RejectionReason};
use crate::store::{Cached, Credential, Denial, DenialKind, TokenRecord, TokenStore, verdict};
use crate::token::TokenFormat;

/// The configuration of a service, shared by all its clones.
#[derive(Clone)]
pub(crate) struct Checker {
    pub(crate) store: Arc<dyn TokenStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sources: CredentialSources,
    pub(super) format: TokenFormat,
    pub(crate) challenges: Challenges,
    pub(super) optional: bool,
    pub(super) identity: Option<Arc<IdentitySource>>,
    pub(super) strip_credential: bool,
    pub(super) last_used: Option<LastUsed>,
    pub(super) audit: Option<Arc<dyn AuditSink>>,
    pub(crate) failures: OptionalFailureLimit,
    /// Whether the response of an accepted request has its principal too.
    pub(super) propagates_principal: bool,
    /// What to add to the response of every accepted request.
    pub(super) additions: Option<ResponseAdditions>,
    pub(crate) outcomes: Outcomes,
}

/// Returns the identity in the extensions of a request without a token.
pub(super) type IdentitySource = dyn Fn(&Extensions) -> Option<Identity> + Send + Sync;

/// The result of the synchronous check of a request.
pub(crate) enum Checked {
    Accepted(Principal),
    /// No credential is presented, and none is required, or an identity may replace it.
    NoToken,
    Rejected(Rejection),
    /// The store must be queried.
    NeedsLookup(Credential<'static>),
}

impl Checker {
    /// Marks the credential sensitive, and checks it if the store has it in memory.
    pub(crate) fn check(&self, headers: &mut HeaderMap) -> Checked {
        let credential = match self.read(headers) {
            Ok(Some(credential)) => credential,
            Ok(None) if self.optional || self.identity.is_some() => return Checked::NoToken,
            Ok(None) => return Checked::Rejected(self.reject(RejectionReason::MissingToken)),
            Err(rejection) => return Checked::Rejected(rejection),
        };
        let found = match self.store.find_cached(&credential) {
            Cached::Found(record) => Some(record),
            Cached::NotFound => None,
            // Accepted tokens need no checksum; it is verified before a lookup.
            Cached::Miss if self.is_damaged(&credential) => None,
            Cached::Miss => return Checked::NeedsLookup(credential.into_owned()),
        };
        match self.evaluate(found, &credential) {
            Ok(principal) => Checked::Accepted(principal),
            Err(rejection) => Checked::Rejected(rejection),
        }
    }

    /// Decides about a request without a credential.
    pub(super) fn accept_without_token(
        &self,
        extensions: &Extensions,
    ) -> Result<NoToken, Rejection> {
        let source = self.identity.as_deref();
        let identity = source.and_then(|source| source(extensions));
        if identity.is_none() && !self.optional {
            return Err(self.reject(RejectionReason::MissingToken));
        }
        Ok(NoToken::new(&self.challenges, identity))
    }

    /// Returns the principal for the response, if it is wanted there.
    #[inline]
    pub(super) fn propagated(&self, principal: &Principal) -> Option<Principal> {
        self.propagates_principal.then(|| principal.clone())
    }

    /// Prepares a request for the inner service. Returns what to add to its response.
    #[inline]
    pub(super) fn prepare_request(
        &self,
        headers: &mut HeaderMap,
        propagated: Option<Principal>,
    ) -> Option<ResponseAdditions> {
        if self.strip_credential {
            self.sources.strip(headers);
        }
        if self.additions.is_none() && propagated.is_none() {
            return None;
        }
        let additions = self.additions.clone().unwrap_or_default();
        Some(additions.with_principal(propagated))
    }

    /// Returns the credential of a request after marking it sensitive.
    #[expect(
        clippy::inline_always,
        reason = "as `CredentialSources::read_and_mark_sensitive`"
    )]
    #[inline(always)]
    pub(crate) fn read<'h>(
        &self,
        headers: &'h mut HeaderMap,
    ) -> Result<Option<Credential<'h>>, Rejection> {
        let token = self.sources.read_and_mark_sensitive(headers);
        let token = token.map_err(|error| self.reject(credential_error_reason(error)))?;
        Ok(token.map(Credential::new))
    }

    /// Looks the credential up and evaluates the result.
    pub(crate) fn authenticate(
        self: Arc<Self>,
        credential: Credential<'static>,
        origin: RequestOrigin,
    ) -> BoxFuture<'static, Result<Principal, Rejection>> {
        Box::pin(async move {
            let timer = LookupTimer::start();
            let found = self.look_up(&credential, origin).await;
            let evaluated =
                found.and_then(|found| self.evaluate_lookup(found, &credential, origin));
            timer.finish(evaluated.as_ref());
            evaluated
        })
    }

    /// Queries the store once the failure limit admits the lookup.
    pub(crate) async fn look_up(
        &self,
        credential: &Credential<'_>,
        origin: RequestOrigin,
    ) -> Result<Option<TokenRecord>, Rejection> {
        let admitted = self.failures.admit(credential.digest(), origin.client);
        let permit = admitted.await.map_err(Rejection::rate_limited)?;
        let found = match permit {
            None => self.store.find(credential).await,
            #[cfg(not(feature = "tokio"))]
            Some(permit) => match permit {},
            #[cfg(feature = "tokio")]
            Some(permit) => {
                let (store, credential) = (Arc::clone(&self.store), credential.to_owned());
                let lookup = async move { store.find(&credential).await };
                permit.run(Box::pin(lookup)).await
            }
        };
        found.map_err(|error| self.reject_store_error(error))
    }

    /// Evaluates the result of a lookup and records it in the failure limit. It never returns 429,
    /// because the lookup was admitted.
    pub(crate) fn evaluate_lookup(
        &self,
        found: Option<TokenRecord>,
        credential: &Credential<'_>,
        origin: RequestOrigin,
    ) -> Result<Principal, Rejection> {
        let evaluated = self.evaluate(found, credential);
        match &evaluated {
            Ok(_) => self.failures.accepted(credential.digest()),
            Err(rejection) => {
                self.failures.rejected(credential.digest());
                if is_failure(rejection.reason()) {
                    // The result is known, so it is returned whether or not the budget is spent.
                    let _ = self.failures.count_failure(origin.client);
                }
                self.audit_rejection(rejection, origin);
            }
        }
        evaluated
    }

    /// Counts a rejection without a lookup; returns 429 beyond the budget.
    pub(crate) fn reject_without_lookup(
        &self,
        rejection: Rejection,
        origin: RequestOrigin,
    ) -> Rejection {
        self.audit_rejection(&rejection, origin);
        if !is_failure(rejection.reason()) {
            return rejection;
        }
        let counted = self.failures.count_failure(origin.client);
        counted.map_or_else(Rejection::rate_limited, |()| rejection)
    }

    #[expect(clippy::inline_always, reason = "as `verdict_again`")]
    #[inline(always)]
    pub(crate) fn evaluate(
        &self,
        found: Option<TokenRecord>,
        credential: &Credential<'_>,
    ) -> Result<Principal, Rejection> {
        let principal = verdict(found, credential, &*self.clock)
            .map_err(|denial| self.deny(&denial, credential))?;
        self.record_use(&principal);
        Ok(principal)
    }

    /// Records that the token of an accepted request was used.
    #[inline]
    pub(crate) fn record_use(&self, principal: &Principal) {
        if let Some(last_used) = &self.last_used {
            last_used.record(principal.id(), self.clock.now());
        }
        if principal.uses_previous_secret() {
            observe::previous_secret_used(principal);
        }
    }

    /// Evaluates a credential again that was accepted earlier in the same request. Its use is not
    /// counted again, and no failure limit applies.
    #[cfg(feature = "api")]
    pub(crate) async fn reauthenticate(
        &self,
        credential: &Credential<'_>,
        origin: RequestOrigin,
    ) -> Result<Principal, Rejection> {
        let found = match self.store.find_cached(credential) {
            Cached::Found(record) => Some(record),
            Cached::NotFound => None,
            Cached::Miss => {
                let found = self.store.find(credential).await;
                found.map_err(|error| self.reject_store_error(error))?
            }
        };
        verdict(found, credential, &*self.clock)
            .map_err(|denial| self.deny(&denial, credential))
            .inspect_err(|rejection| self.audit_rejection(rejection, origin))
    }

    /// Creates the rejection of a change whose actor's token is no longer accepted.
    #[cfg(feature = "api")]
    pub(crate) fn reject_actor(&self, kind: DenialKind) -> Rejection {
        self.reject(kind.into())
    }

    fn deny(&self, denial: &Denial, credential: &Credential<'_>) -> Rejection {
        let reason = match denial.kind() {
            DenialKind::Unknown if self.is_damaged(credential) => RejectionReason::DamagedToken,
            kind => kind.into(),
        };
        self.reject(reason).with_denial(denial)
    }

    pub(crate) fn is_damaged(&self, credential: &Credential<'_>) -> bool {
        self.format.is_damaged(credential.token())
    }

    /// Returns whether an unknown credential can have been a token.
    #[cfg(feature = "api")]
    pub(crate) fn is_plausible(&self, credential: &Credential<'_>) -> bool {
        self.format.is_plausible(credential.token())
    }
}

/// Returns whether a rejection for this reason counts as a failure of its client.
fn is_failure(reason: RejectionReason) -> bool {
    matches!(
        reason,
        RejectionReason::UnknownToken
            | RejectionReason::DamagedToken
            | RejectionReason::WrongDigest
    )
}

fn credential_error_reason(error: CredentialError) -> RejectionReason {
    match error {
        CredentialError::Repeated => RejectionReason::RepeatedHeader,
        CredentialError::Conflicting => RejectionReason::ConflictingTokens,
        CredentialError::Malformed => RejectionReason::MalformedHeader,
        CredentialError::TooLong => RejectionReason::TokenTooLong,
    }
}
