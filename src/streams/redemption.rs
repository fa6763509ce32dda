use std::sync::Arc;

use super::tickets::Tickets;
use crate::digest::TokenDigest;
use crate::limits::RequestOrigin;
use crate::middleware::Checker;
use crate::observe::LookupTimer;
use crate::principal::{Principal, RightsDigest};
use crate::reject::{Rejection, RejectionReason};
use crate::store::{Denial, StoreError, TokenStore, verdict_again};

/// Why a ticket was not redeemed.
enum RedemptionError {
    /// The ticket is unknown, expired or used, or the rights of its token have changed.
    Invalid,
    /// The token behind the ticket is no longer accepted.
    Denied(Denial),
    Store(StoreError),
}

/// Takes the ticket once the failure limit admits it, and looks the token behind it up again.
pub(super) async fn redeem(
    checker: Arc<Checker>,
    tickets: Tickets,
    ticket: TokenDigest,
    origin: RequestOrigin,
) -> Result<Principal, Rejection> {
    let timer = LookupTimer::start();
    let redeemed = redeem_admitted(&checker, tickets, ticket, origin).await;
    timer.finish(redeemed.as_ref());
    redeemed
}

async fn redeem_admitted(
    checker: &Checker,
    tickets: Tickets,
    ticket: TokenDigest,
    origin: RequestOrigin,
) -> Result<Principal, Rejection> {
    let admitted = checker.failures.admit(&ticket, origin.client);
    let permit = admitted.await.map_err(Rejection::rate_limited)?;
    let (tokens, clock) = (Arc::clone(&checker.store), Arc::clone(&checker.clock));
    let redemption = async move {
        let taken = tickets
            .take(&ticket)
            .await
            .map_err(RedemptionError::Store)?;
        let taken = taken.ok_or(RedemptionError::Invalid)?;
        let found = tokens.find_again(taken.token_id, &taken.token_digest).await;
        let found = found.map_err(RedemptionError::Store)?;
        let judged = verdict_again(found, &taken.token_digest, &clock);
        let principal = judged.map_err(RedemptionError::Denied)?;
        // Guards behind the layer that issued the ticket judged the rights at that time.
        let has_same_rights = RightsDigest::of(&principal) == taken.rights;
        let is_unchanged = principal.id() == taken.token_id && has_same_rights;
        is_unchanged
            .then_some(principal)
            .ok_or(RedemptionError::Invalid)
    };
    let redeemed = match permit {
        None => redemption.await,
        Some(permit) => permit.run(Box::pin(redemption)).await,
    };
    redeemed
        .inspect(|principal| checker.record_use(principal))
        .map_err(|error| reject(checker, error, origin))
}

fn reject(checker: &Checker, error: RedemptionError, origin: RequestOrigin) -> Rejection {
    match error {
        RedemptionError::Store(error) => checker.reject_store_error(error),
        RedemptionError::Denied(denial) => {
            let rejection = checker.reject(RejectionReason::from(denial.kind()));
            let rejection = rejection.with_denial(&denial);
            checker.audit_rejection(&rejection, origin);
            rejection
        }
        RedemptionError::Invalid => {
            // The result is known, so it is returned whether or not the budget is spent.
            let _ = checker.failures.count_failure(origin.client);
            checker.reject(RejectionReason::InvalidTicket)
        }
    }
}
