#[cfg(feature = "metrics")]
use std::time::Instant;

use crate::counter::CachedCounter;
use crate::principal::Principal;
use crate::reject::{NoToken, Rejection, RejectionReason};

const NAME: &str = "service_token_requests_total";

const LABEL: &str = "outcome";

/// Counts the requests that one layer checks, by outcome.
#[derive(Clone, Default)]
pub(crate) struct Outcomes {
    accepted: CachedCounter,
    identity: CachedCounter,
    anonymous: CachedCounter,
    rejected: [CachedCounter; RejectionReason::COUNT],
}

impl Outcomes {
    /// Counts a request that was accepted with a principal.
    #[inline]
    pub(crate) fn accepted(&self) {
        self.accepted.increment(NAME, LABEL, "accepted");
    }

    /// Counts a request that was accepted without a credential.
    pub(crate) fn accepted_without_token(&self, no_token: &NoToken) {
        match no_token.identity() {
            Some(_) => self.identity.increment(NAME, LABEL, "identity"),
            None => self.anonymous.increment(NAME, LABEL, "anonymous"),
        }
    }

    /// Counts a rejected request. It is [logged](super::log) where the response is built.
    pub(crate) fn rejected(&self, rejection: &Rejection) {
        let reason = rejection.reason();
        self.rejected[reason as usize].increment(NAME, LABEL, reason.as_str());
    }
}

/// Times a lookup that a request waits for. Empty without the feature `metrics`.
pub(crate) struct LookupTimer {
    #[cfg(feature = "metrics")]
    started: Instant,
}

impl LookupTimer {
    pub(crate) fn start() -> Self {
        Self {
            #[cfg(feature = "metrics")]
            started: Instant::now(),
        }
    }

    /// Records the time until the result of the lookup.
    pub(crate) fn finish(self, result: Result<&Principal, &Rejection>) {
        #[cfg(feature = "metrics")]
        {
            let outcome = result.map_or_else(|it| it.reason().as_str(), |_| "accepted");
            let seconds = metrics::histogram!("service_token_lookup_seconds", "outcome" => outcome);
            seconds.record(self.started.elapsed());
        }
        let _ = (self, result);
    }
}
