use std::sync::Arc;

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue};

use crate::clock::Clock;
use crate::header::{CredentialSources, IntakeError};
use crate::principal::Principal;
use crate::reject::{Challenges, Rejection, RejectionReason};
use crate::store::{
    Cached, Credential, Denial, DenialKind, StoreError, StoreErrorKind, TokenRecord, TokenStore,
    verdict,
};
use crate::token::{TokenFormat, TokenShape};

/// Everything a request is handled by, shared by all clones of a service.
#[derive(Clone)]
pub(super) struct Checker {
    pub(super) store: Arc<dyn TokenStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sources: CredentialSources,
    pub(super) format: TokenFormat,
    pub(super) challenges: Arc<Challenges>,
    pub(super) optional: bool,
    pub(super) strip_credential: bool,
    /// `Vary` for accepted responses, unless cache headers are off.
    pub(super) vary: Option<HeaderValue>,
}

/// What is known about a request without waiting.
pub(super) enum Checked {
    Accepted(Principal),
    /// No credential, and none is demanded.
    Anonymous,
    Refused(Rejection),
    /// The store must be asked.
    Ask(Credential<'static>),
}

impl Checker {
    /// Pure but for the store's own memory.
    pub(super) fn check(&self, headers: &HeaderMap) -> Checked {
        let token = match self.sources.read(headers) {
            Ok(Some(token)) => token,
            Ok(None) if self.optional => return Checked::Anonymous,
            Ok(None) => return Checked::Refused(self.refuse(RejectionReason::MissingToken)),
            Err(error) => return Checked::Refused(self.refuse(intake_reason(error))),
        };
        let credential = Credential::new(token);
        let found = match self.store.find_cached(&credential) {
            Cached::Found(record) => Some(record),
            Cached::NotFound => None,
            // An accepted token need not pay for its checksum; a lookup is worth one.
            Cached::Ask if self.is_damaged(&credential) => None,
            Cached::Ask => return Checked::Ask(credential.into_owned()),
        };
        match self.judge(found, &credential) {
            Ok(principal) => Checked::Accepted(principal),
            Err(rejection) => Checked::Refused(rejection),
        }
    }

    /// Asks the store and judges what it says.
    pub(super) fn ask(
        self: Arc<Self>,
        credential: Credential<'static>,
    ) -> BoxFuture<'static, Result<Principal, Rejection>> {
        Box::pin(async move {
            match self.store.find(&credential).await {
                Ok(found) => self.judge(found, &credential),
                Err(error) => Err(self.unavailable(error)),
            }
        })
    }

    fn judge(
        &self,
        found: Option<TokenRecord>,
        credential: &Credential<'_>,
    ) -> Result<Principal, Rejection> {
        verdict(found, credential, &*self.clock).map_err(|denial| self.deny(denial, credential))
    }

    fn deny(&self, denial: Denial, credential: &Credential<'_>) -> Rejection {
        let reason = match denial.kind() {
            DenialKind::Unknown if self.is_damaged(credential) => RejectionReason::DamagedToken,
            DenialKind::Unknown => RejectionReason::UnknownToken,
            DenialKind::WrongDigest => RejectionReason::WrongDigest,
            DenialKind::Revoked => RejectionReason::RevokedToken,
            DenialKind::Disabled => RejectionReason::DisabledToken,
            DenialKind::Expired => RejectionReason::ExpiredToken,
            DenialKind::NotYetValid => RejectionReason::TokenNotYetValid,
        };
        self.refuse(reason).with_token_id(denial.token_id())
    }

    fn unavailable(&self, error: StoreError) -> Rejection {
        let reason = match error.kind() {
            StoreErrorKind::Unavailable => RejectionReason::StoreUnavailable,
            StoreErrorKind::RateLimited => RejectionReason::RateLimited,
            StoreErrorKind::Corrupt => RejectionReason::CorruptRecord,
        };
        let retry_after = error.retry_after().unwrap_or_default();
        self.refuse(reason)
            .with_retry_after(retry_after)
            .with_source(error)
    }

    fn refuse(&self, reason: RejectionReason) -> Rejection {
        Rejection::new(reason).with_challenges(&self.challenges)
    }

    fn is_damaged(&self, credential: &Credential<'_>) -> bool {
        self.format.inspect(credential.token().expose_secret()) == TokenShape::Damaged
    }
}

fn intake_reason(error: IntakeError) -> RejectionReason {
    match error {
        IntakeError::Repeated => RejectionReason::RepeatedHeader,
        IntakeError::Conflicting => RejectionReason::ConflictingTokens,
        IntakeError::Malformed => RejectionReason::MalformedHeader,
        IntakeError::TooLong => RejectionReason::TokenTooLong,
    }
}
