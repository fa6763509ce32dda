use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::form::{self, FormError};
use super::state::OAuthState;
use crate::api::body;
use crate::api::entity_tag;
use crate::api::error::unavailable_rejection;
use crate::api::request_log::CallerId;
use crate::lifecycle::{Actor, LifecycleError};
use crate::limits::{ClientAddress, RequestOrigin};
use crate::observe;
use crate::registry::AuthorityError;
use crate::reject::{Rejection, RejectionReason};
use crate::store::Credential;
use crate::token::DisplayId;

pub(super) async fn handle(State(state): State<Arc<OAuthState>>, request: Request) -> Response {
    if let Err(error) = entity_tag::require_no_entity_tags(request.headers()) {
        return FormError::from(error).into_response();
    }
    let origin = RequestOrigin::from_extensions(request.extensions());
    match form::token(request).await {
        Ok(token) => respond(state.revoke(&token, origin).await),
        Err(error) => error.into_response(),
    }
}

fn respond(revoked: Result<RevocationOutcome, RevocationError>) -> Response {
    match revoked {
        Ok(RevocationOutcome::Revoked(within)) => {
            observe::count_response("revoke", Ok("revoked"));
            body::with_effective_within(within, StatusCode::OK.into_response())
        }
        Ok(RevocationOutcome::Unknown) => {
            observe::count_response("revoke", Ok("unknown"));
            StatusCode::OK.into_response()
        }
        Ok(RevocationOutcome::NotAToken) => {
            observe::count_response("revoke", Ok("not_a_token"));
            FormError::INVALID.into_response()
        }
        Ok(RevocationOutcome::OtherStore) => {
            observe::count_response("revoke", Ok("unsupported"));
            FormError::UNSUPPORTED.into_response()
        }
        Err(RevocationError { rejection, id }) => {
            observe::count_response("revoke", Err(&rejection));
            let mut response = rejection.into_response();
            if let Some(id) = id {
                response.extensions_mut().insert(CallerId(id));
            }
            response
        }
    }
}

/// The outcome of a revocation.
enum RevocationOutcome {
    /// No node accepts the token after this time.
    Revoked(Duration),
    /// The token was not valid before.
    Unknown,
    /// The text is not a token, so the token that the client means may still be valid.
    NotAToken,
    /// The token is valid, and in another store.
    OtherStore,
}

/// The reason why nothing was revoked, and the id of the token if its secret was presented.
struct RevocationError {
    rejection: Rejection,
    id: Option<DisplayId>,
}

impl OAuthState {
    async fn revoke(
        &self,
        token: &str,
        origin: RequestOrigin,
    ) -> Result<RevocationOutcome, RevocationError> {
        let inspector = &self.inspector;
        let Ok(token) = inspector.checker.sources.parse_token(token) else {
            let failed = inspector.record_failure(origin, RejectionReason::UnknownToken);
            return unknown(failed, RevocationOutcome::NotAToken);
        };
        let credential = Credential::new(token);
        let (id, display_id, is_valid) = match inspector.inspect(&credential, origin).await {
            Ok((record, _)) => (record.id(), record.display_id(), true),
            Err(rejection) => match rejection.token_id().zip(rejection.display_id()) {
                Some((id, display_id)) => (id, display_id, false),
                None if inspector.checker.is_plausible(&credential) => {
                    return unknown(rejection, RevocationOutcome::Unknown);
                }
                None => return unknown(rejection, RevocationOutcome::NotAToken),
            },
        };
        // The current secret revokes its token even if it is disabled or expired. A secret that a
        // rotation replaced does not; the registry checks it in the transaction that writes.
        let actor = Actor::possession(id, &credential);
        let actor = actor.with_client_address(origin.address.map(ClientAddress::ip));
        match self.tokens.clone().acting_for(actor).revoke(id).await {
            Ok(revoked) => Ok(RevocationOutcome::Revoked(revoked.effective_within)),
            Err(LifecycleError::NotFound) if is_valid => Ok(RevocationOutcome::OtherStore),
            Err(
                LifecycleError::NotFound
                | LifecycleError::Unauthorized(AuthorityError::ActorTokenRejected(_)),
            ) => Ok(RevocationOutcome::Unknown),
            // The token may still be valid, so this must not be a 200.
            Err(error) => Err(RevocationError {
                rejection: unavailable_rejection(error, &inspector.checker).of_change(),
                id: Some(display_id),
            }),
        }
    }
}

/// Returns `outcome` if the token is not valid, and an error if that is not known.
fn unknown(
    rejection: Rejection,
    outcome: RevocationOutcome,
) -> Result<RevocationOutcome, RevocationError> {
    if rejection.is_invalid_token() {
        Ok(outcome)
    } else {
        Err(RevocationError {
            rejection: rejection.of_change(),
            id: None,
        })
    }
}
