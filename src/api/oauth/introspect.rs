use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;

use super::super::failure_limit::Client;
use super::answer::{Answer, INACTIVE};
use super::basic::{self, BasicError};
use super::endpoints::Shared;
use super::form;
use crate::observe::{self, Stopwatch};
use crate::principal::{Principal, Requirement};
use crate::reject::{Rejection, RejectionReason};
use crate::store::Credential;

/// What a caller must hold.
const SCOPE: &str = "introspect";

pub(super) async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let mut response = match shared.caller(&mut parts).await {
        Ok(caller) => {
            let request = Request::from_parts(parts, body);
            match form::token(request).await {
                Ok(token) => shared.introspect(&token, &caller).await,
                Err(error) => error.into_response(),
            }
        }
        Err(rejection) => rejection.into_response(),
    };
    form::forbid_keeping(response.headers_mut());
    response
}

impl Shared {
    /// Who asks, and may.
    async fn caller(&self, parts: &mut Parts) -> Result<Principal, Rejection> {
        let checker = &self.inspector.checker;
        let id = basic::unwrap(&mut parts.headers).map_err(|error| {
            let rejection = match error {
                BasicError::Malformed => checker.refuse(RejectionReason::MalformedHeader),
                BasicError::UnknownUser => {
                    let client = self.inspector.client(parts);
                    self.inspector.fail(client, RejectionReason::UnknownToken)
                }
            };
            Stopwatch::start().refused(&rejection);
            rejection
        })?;
        let caller = self.inspector.caller(parts, id).await?;
        let required = Requirement::all_scopes([SCOPE]);
        let admitted = caller.require(required);
        admitted.map_err(|rejection| rejection.with_challenges(&checker.challenges))?;
        Ok(caller)
    }

    async fn introspect(&self, token: &str, caller: &Principal) -> Response {
        let client = Client::Holder(caller.id());
        let inspected = match self.for_services.checker.sources.read_text(token) {
            Ok(token) => {
                let credential = Credential::new(token);
                self.for_services.inspect(&credential, client).await
            }
            Err(_) => Err(self
                .for_services
                .fail(client, RejectionReason::UnknownToken)),
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
                rejection.into_response()
            }
        }
    }
}
