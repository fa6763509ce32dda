use axum::extract::{OriginalUri, Request, State};
use axum::response::Response;
use http::header::LOCATION;
use http::{HeaderValue, StatusCode, Uri};

use super::conditions::ListCondition;
use super::idempotency_key::{IdempotencyKey, RequestKey};
use super::problem::Problem;
use super::state::SharedState;
use crate::api::body;
use crate::api::caller::Caller;
use crate::api::entity_tag::with_etag;
use crate::api::error::with_sent_names;
use crate::api::guard::write_requirement;
use crate::lifecycle::{LifecycleError, NewToken};
use crate::store::TokenRecord;
use crate::token::PresentedToken;
use crate::wire::{CreateRequest, IssuedResponse, ReplayedResponse};

/// Creates a token.
#[utoipa::path(
    post, path = "/service-tokens", operation_id = "createServiceToken",
    params(IdempotencyKey), request_body = CreateRequest,
    responses(
        (status = 201, description = "The token and its secret.", body = IssuedResponse,
            headers(
                ("Location" = String, description = "The location of the token."),
                ("ETag" = String, description = "The revision of the token, for `If-Match`."))),
        (status = 200, description = "Created earlier with this `Idempotency-Key`: the token \
            without its secret.", body = ReplayedResponse, headers(
                ("Location" = String, description = "The location of the token."),
                ("ETag" = String, description = "The revision of the token, for `If-Match`."),
                ("Idempotency-Replayed" = String, description = "Always `true`."))),
    ),
)]
pub(super) async fn handle(
    State(state): SharedState,
    OriginalUri(target): OriginalUri,
    caller: Caller,
    RequestKey(key): RequestKey,
    _: ListCondition,
    request: Request,
) -> Result<Response, Problem> {
    let request = body::json::<CreateRequest>(request).await?;
    let names = [("/expires_at", request.expiry_member())];
    let mut new = NewToken::try_from(request)?;
    if let Some(key) = key {
        new = new.with_idempotency_key(key);
    }
    let tokens = caller
        .tokens_to_change(&state, Some(write_requirement()))
        .await?;
    match tokens.create(new).await {
        Ok(issued) => {
            let token = PresentedToken::new(issued.expose_secret());
            let issued_response = IssuedResponse {
                service_token: state.info(issued.record()),
                token: token.map(PresentedToken::into_owned),
            };
            let response = body::response(StatusCode::CREATED, &issued_response);
            let response = with_etag(issued.record(), response);
            let response = with_location(&target, issued.record(), response);
            Ok(body::with_effective_within(
                issued.effective_within(),
                response,
            ))
        }
        Err(LifecycleError::AlreadyCreated(record)) => {
            let response = state.replayed_response(&record);
            Ok(with_location(&target, &record, response))
        }
        Err(error) => Err(state.change_error(with_sent_names(error, &names))),
    }
}

/// Adds the location of the token.
fn with_location(collection: &Uri, record: &TokenRecord, mut response: Response) -> Response {
    let collection = collection.path().trim_end_matches('/');
    if let Ok(location) = HeaderValue::try_from(format!("{collection}/{}", record.id())) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
