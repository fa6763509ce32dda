use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use super::basic::{self, BasicError};
use super::form;
use super::response::{INACTIVE, Introspection};
use super::state::OAuthState;
use crate::api::body;
use crate::api::caller::reauthenticate;
use crate::api::request_log::CallerId;
use crate::limits::RequestOrigin;
use crate::observe;
use crate::principal::{Principal, Requirement};
use crate::reject::{Rejection, RejectionReason};
use crate::store::Credential;

/// The scope that a caller needs.
const SCOPE: &str = "introspect";

fn requirement() -> Requirement {
    Requirement::all_scopes([SCOPE])
}

pub(super) async fn handle(
    State(state): State<Arc<OAuthState>>,
    request: Request,
) -> Result<Response, Rejection> {
    let (parts, body) = request.into_parts();
    state.respond(parts, body).await
}

impl OAuthState {
    /// Authenticates the caller before it reads the body, and again afterwards.
    async fn respond(&self, mut parts: Parts, body: Body) -> Result<Response, Rejection> {
        let origin = RequestOrigin::from_extensions(&parts.extensions);
        let credential = self.authenticate(&mut parts, origin).await?;
        let token = match form::token(Request::from_parts(parts, body)).await {
            Ok(token) => token,
            Err(error) => return Ok(error.into_response()),
        };
        let checker = &self.inspector.checker;
        let requirement = Some(Arc::new(requirement()));
        let caller = reauthenticate(checker, &credential, origin, requirement).await?;
        Ok(self.introspect(&token, &caller, origin).await)
    }

    /// Authenticates the caller and returns its credential.
    async fn authenticate(
        &self,
        parts: &mut Parts,
        origin: RequestOrigin,
    ) -> Result<Credential<'static>, Rejection> {
        let checker = &self.inspector.checker;
        let id = basic::rewrite_as_api_key(&mut parts.headers).map_err(|error| {
            let rejection = match error {
                BasicError::Malformed => checker.reject(RejectionReason::MalformedHeader),
                BasicError::UnknownUser => self
                    .inspector
                    .record_failure(origin, RejectionReason::UnknownToken),
            };
            checker.outcomes.rejected(&rejection);
            rejection
        })?;
        let caller = self.inspector.authenticate(parts, id).await?;
        let allowed = caller.require(requirement());
        allowed.map_err(|rejection| rejection.with_challenges(&checker.challenges))?;
        let credential = checker.read(&mut parts.headers)?;
        let missing = || checker.reject(RejectionReason::MissingToken);
        Ok(credential.ok_or_else(missing)?.into_owned())
    }

    async fn introspect(&self, token: &str, caller: &Principal, origin: RequestOrigin) -> Response {
        let origin = origin.with_holder(caller.id());
        let inspected = match self.service_inspector.checker.sources.parse_token(token) {
            Ok(token) => {
                let credential = Credential::new(token);
                self.service_inspector.inspect(&credential, origin).await
            }
            Err(_) => Err(self
                .service_inspector
                .record_failure(origin, RejectionReason::UnknownToken)),
        };
        match inspected {
            // A caller with an owner sees only the tokens of that owner.
            Ok((_, principal))
                if caller
                    .owner()
                    .is_some_and(|it| principal.owner() != Some(it)) =>
            {
                inactive()
            }
            Ok((record, principal)) => {
                observe::count_response("introspect", Ok("active"));
                let mut introspection = Introspection::new(&record, &principal);
                introspection.iss = self.issuer.as_deref();
                introspection.aud = self.audience.as_deref();
                body::response(StatusCode::OK, &introspection)
            }
            Err(rejection) if rejection.is_invalid_token() => inactive(),
            Err(rejection) => {
                observe::count_response("introspect", Err(&rejection));
                (Extension(CallerId(caller.display_id())), rejection).into_response()
            }
        }
    }
}

fn inactive() -> Response {
    observe::count_response("introspect", Ok("inactive"));
    body::with_json(StatusCode::OK.into_response(), INACTIVE)
}
