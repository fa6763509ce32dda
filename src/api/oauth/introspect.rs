use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;

use super::super::request_log::CallerId;
use super::answer::{Answer, INACTIVE};
use super::basic::{self, BasicError};
use super::endpoints::Shared;
use super::form;
use crate::limits::Origin;
use crate::observe::{self, Stopwatch};
use crate::principal::{Principal, Requirement};
use crate::reject::{Rejection, RejectionReason};
use crate::store::Credential;
use crate::token::TokenId;

/// What a caller must hold.
const SCOPE: &str = "introspect";

pub(super) async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut response = match shared.answer(parts, body).await {
        Ok(response) => response,
        Err(rejection) => rejection.into_response(),
    };
    form::forbid_keeping(response.headers_mut());
    response
}

impl Shared {
    /// The caller is authenticated before its body is read, and again afterwards.
    async fn answer(&self, mut parts: Parts, body: Body) -> Result<Response, Rejection> {
        let origin = Origin::from_extensions(&parts.extensions);
        let credential = self.authenticate(&mut parts, origin).await?;
        let token = match form::token(Request::from_parts(parts, body)).await {
            Ok(token) => token,
            Err(error) => return Ok(error.into_response()),
        };
        let checker = &self.inspector.checker;
        let caller = checker.judge_again(&credential, origin).await;
        let caller = caller.and_then(|caller| self.require_scope(&caller).map(|()| caller));
        let caller = caller.inspect_err(|rejection| {
            Stopwatch::start().refused(rejection);
        })?;
        Ok(self.introspect(&token, caller.id(), origin).await)
    }

    /// Authenticates the caller, and returns what does so again.
    async fn authenticate(
        &self,
        parts: &mut Parts,
        origin: Origin,
    ) -> Result<Credential<'static>, Rejection> {
        let checker = &self.inspector.checker;
        let id = basic::unwrap(&mut parts.headers).map_err(|error| {
            let rejection = match error {
                BasicError::Malformed => checker.refuse(RejectionReason::MalformedHeader),
                BasicError::UnknownUser => {
                    self.inspector.fail(origin, RejectionReason::UnknownToken)
                }
            };
            Stopwatch::start().refused(&rejection);
            rejection
        })?;
        let caller = self.inspector.caller(parts, id).await?;
        self.require_scope(&caller)?;
        let credential = checker.read(&mut parts.headers)?;
        let missing = || checker.refuse(RejectionReason::MissingToken);
        Ok(credential.ok_or_else(missing)?.into_owned())
    }

    fn require_scope(&self, caller: &Principal) -> Result<(), Rejection> {
        let challenges = &self.inspector.checker.challenges;
        let allowed = caller.require(Requirement::all_scopes([SCOPE]));
        allowed.map_err(|rejection| rejection.with_challenges(challenges))
    }

    async fn introspect(&self, token: &str, caller: TokenId, origin: Origin) -> Response {
        let origin = origin.with_holder(caller);
        let inspected = match self.for_services.checker.sources.read_text(token) {
            Ok(token) => {
                let credential = Credential::new(token);
                self.for_services.inspect(&credential, origin).await
            }
            Err(_) => Err(self
                .for_services
                .fail(origin, RejectionReason::UnknownToken)),
        };
        match inspected {
            Ok((record, principal)) => {
                observe::introspected(Ok("active"));
                let mut answer = Answer::new(&record, &principal);
                answer.iss = self.issuer.as_deref();
                answer.aud = self.audience.as_deref();
                form::json(answer.to_json())
            }
            Err(rejection) if rejection.is_of_token() => {
                observe::introspected(Ok("inactive"));
                form::json(INACTIVE.to_owned())
            }
            Err(rejection) => {
                observe::introspected(Err(&rejection));
                (Extension(CallerId(caller)), rejection).into_response()
            }
        }
    }
}
