use super::check::Checker;
use crate::audit::AuditEvent;
use crate::limits::{ClientAddress, RequestOrigin};
use crate::reject::{Rejection, RejectionReason};
use crate::store::{DenialKind, StoreError};

impl Checker {
    /// Sends an audit event for a rejected token whose secret was presented.
    pub(crate) fn audit_rejection(&self, rejection: &Rejection, origin: RequestOrigin) {
        let ids = rejection.token_id().zip(rejection.display_id());
        let kind = denial_kind(rejection.reason());
        if let (Some(audit), Some((id, display_id)), Some(kind)) = (&self.audit, ids, kind) {
            let event = AuditEvent::rejected(self.clock.now(), kind, id, display_id)
                .with_client_address(origin.address.map(ClientAddress::ip));
            audit.record(&event);
        }
    }

    pub(crate) fn reject_store_error(&self, error: StoreError) -> Rejection {
        Rejection::from(error).with_challenges(&self.challenges)
    }

    pub(crate) fn reject(&self, reason: RejectionReason) -> Rejection {
        Rejection::new(reason).with_challenges(&self.challenges)
    }
}

/// Returns the kind of denial for this reason, if it is one of a known token.
fn denial_kind(of: RejectionReason) -> Option<DenialKind> {
    [
        DenialKind::Revoked,
        DenialKind::Disabled,
        DenialKind::Expired,
        DenialKind::Superseded,
        DenialKind::NotYetValid,
    ]
    .into_iter()
    .find(|kind| RejectionReason::from(*kind) == of)
}
