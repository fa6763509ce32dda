use super::check::Checker;
use crate::digest::TokenDigest;
use crate::limits::RequestOrigin;
use crate::observe;
use crate::principal::Principal;
use crate::reject::{Rejection, RejectionReason};
use crate::store::{Denial, StoreError};

/// Why a ticket was not redeemed.
pub(crate) enum Refusal {
    /// The ticket is unknown, expired or used, or the rights of its token have changed.
    Invalid,
    /// The token behind the ticket is no longer accepted.
    Denied(Denial),
    Store(StoreError),
}

impl Checker {
    /// Waits until a lookup of the ticket may run, and runs it.
    pub(crate) async fn run_redemption(
        &self,
        ticket: &TokenDigest,
        origin: RequestOrigin,
        redemption: impl Future<Output = Result<Principal, Refusal>> + Send + 'static,
    ) -> Result<Principal, Rejection> {
        let admitted = self.failures.admit(ticket, origin.client);
        let permit = admitted.await.map_err(Rejection::rate_limited)?;
        let redeemed = match permit {
            None => redemption.await,
            Some(permit) => permit.run(Box::pin(redemption)).await,
        };
        match redeemed {
            Ok(principal) => {
                if let Some(last_used) = &self.last_used {
                    last_used.record(principal.id(), self.clock.now());
                }
                if principal.uses_previous_secret() {
                    observe::previous_secret_used(&principal);
                }
                Ok(principal)
            }
            Err(refusal) => Err(self.reject_refusal(refusal, origin)),
        }
    }

    fn reject_refusal(&self, refusal: Refusal, origin: RequestOrigin) -> Rejection {
        match refusal {
            Refusal::Store(error) => self.reject_store_error(error),
            Refusal::Denied(denial) => {
                let rejection = self.reject(denial.kind().into());
                let rejection = rejection.with_denial(&denial);
                self.audit_rejection(&rejection, origin);
                rejection
            }
            Refusal::Invalid => {
                // The result is known, so it is returned whether or not the budget is spent.
                let _ = self.failures.count_failure(origin.client);
                self.reject(RejectionReason::InvalidTicket)
            }
        }
    }
}
