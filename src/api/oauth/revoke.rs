use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::super::outcome::{effective, outage};
use super::super::request_log::CallerId;
use super::endpoints::Shared;
use super::form::{self, FormError};
use crate::lifecycle::{Actor, LifecycleError};
use crate::limits::{ClientAddress, Origin};
use crate::observe;
use crate::reject::{Rejection, RejectionReason};
use crate::store::Credential;
use crate::token::TokenId;

pub(super) async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let origin = Origin::from_extensions(&parts.extensions);
    let mut response = match form::token(Request::from_parts(parts, body)).await {
        Ok(token) => respond(shared.revoke(&token, origin).await),
        Err(error) => error.into_response(),
    };
    form::forbid_keeping(response.headers_mut());
    response
}

fn respond(revoked: Result<Revoked, NotRevoked>) -> Response {
    match revoked {
        Ok(Revoked::Effective(within)) => {
            observe::revoked(Ok("revoked"));
            effective(within, StatusCode::OK.into_response())
        }
        Ok(Revoked::Powerless) => {
            observe::revoked(Ok("unknown"));
            StatusCode::OK.into_response()
        }
        Ok(Revoked::Elsewhere) => {
            observe::revoked(Ok("unsupported"));
            FormError::UNSUPPORTED.into_response()
        }
        Err(NotRevoked { rejection, id }) => {
            observe::revoked(Err(&rejection));
            let mut response = rejection.into_response();
            if let Some(id) = id {
                response.extensions_mut().insert(CallerId(id));
            }
            response
        }
    }
}

/// What came of a revocation.
enum Revoked {
    /// No node accepts the token after this time.
    Effective(Duration),
    /// What was presented opened nothing before either.
    Powerless,
    /// The token is good, and of a store that is not ours to change.
    Elsewhere,
}

/// Why nothing was revoked, and the token, if its secret was presented.
struct NotRevoked {
    rejection: Rejection,
    id: Option<TokenId>,
}

impl Shared {
    async fn revoke(&self, token: &str, origin: Origin) -> Result<Revoked, NotRevoked> {
        let inspector = &self.inspector;
        let Ok(token) = inspector.checker.sources.read_text(token) else {
            let failed = inspector.fail(origin, RejectionReason::UnknownToken);
            return powerless(failed);
        };
        let credential = Credential::new(token);
        let (id, is_good) = match inspector.inspect(&credential, origin).await {
            Ok((record, _)) => (record.id(), true),
            Err(rejection) => match rejection.token_id() {
                Some(id) => (id, false),
                None => return powerless(rejection),
            },
        };
        // The secret revokes its token, be that disabled or expired. One that a rotation replaced
        // does not; the registry finds out in the transaction that writes.
        let actor = Actor::possession(id, &credential);
        let actor = actor.with_client_address(origin.address.map(ClientAddress::ip));
        match self.tokens.clone().acting_for(actor).revoke(id).await {
            Ok(revoked) => Ok(Revoked::Effective(revoked.effective_within)),
            Err(LifecycleError::NotFound) if is_good => Ok(Revoked::Elsewhere),
            Err(LifecycleError::NotFound | LifecycleError::ActorEnded(_)) => Ok(Revoked::Powerless),
            // The token may still be valid, so this must not be a 200.
            Err(error) => Err(NotRevoked {
                rejection: outage(error, &inspector.checker),
                id: Some(id),
            }),
        }
    }
}

fn powerless(rejection: Rejection) -> Result<Revoked, NotRevoked> {
    if rejection.is_of_token() {
        Ok(Revoked::Powerless)
    } else {
        Err(NotRevoked {
            rejection,
            id: None,
        })
    }
}
