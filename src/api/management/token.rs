use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

use super::conditions::{Conditions, IfMatch, LastAdmin};
use super::idempotency_key::{IdempotencyKey, RequestKey};
use super::problem::Problem;
use super::state::{HandlerState, SharedState, id};
use crate::api::body;
use crate::api::caller::{Caller, PathSegment, Reader};
use crate::api::entity_tag::with_etag;
use crate::api::error::with_sent_names;
use crate::lifecycle::{ChangedToken, LifecycleError, TokenUpdate};
use crate::token::{PresentedToken, TokenId};
use crate::wire::{ReplayedResponse, RotateRequest, RotatedResponse, TokenInfo, UpdateRequest};

type Outcome = Result<Response, Problem>;

/// The path in the OpenAPI document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only describes the path")]
struct TokenPath {
    /// The public id of the token.
    #[param(pattern = "^[0-9A-Za-z]{10}$")]
    id: String,
}

#[derive(utoipa::ToResponse)]
#[response(description = "The token.", headers(
    ("ETag" = String, description = "The revision of the token, for `If-Match`."),
))]
#[expect(dead_code, reason = "only describes the response")]
struct TokenResponse(TokenInfo);

/// The token with its new secret, or without a secret if the request repeats the last rotation.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ServiceTokenRotationResponse)]
#[serde(untagged)]
#[expect(dead_code, reason = "only describes the body")]
enum RotationResponse {
    Rotated(RotatedResponse),
    Replayed(ReplayedResponse),
}

/// Returns a token.
#[utoipa::path(
    get, path = "/service-tokens/{id}", operation_id = "getServiceToken",
    params(TokenPath),
    responses((status = 200, response = inline(TokenResponse))),
)]
pub(super) async fn get(
    State(state): SharedState,
    Reader(tokens): Reader,
    PathSegment(path): PathSegment,
) -> Outcome {
    let record = tokens.get(id(&path)?).await;
    let record = record.map_err(|error| state.error(error))?;
    Ok(state.token_response(&record))
}

/// Returns the caller's own token.
#[utoipa::path(
    get, path = "/service-tokens/self", operation_id = "getOwnServiceToken",
    responses((status = 200, response = inline(TokenResponse))),
)]
pub(super) async fn get_own(State(state): SharedState, caller: Caller) -> Outcome {
    let tokens = caller.tokens(&state, None).await?;
    match tokens.own_record().await {
        Ok(record) => Ok(state.token_response(&record)),
        Err(LifecycleError::UnknownActor) => Err(Problem::not_found()),
        Err(error) => Err(state.error(error)),
    }
}

/// Updates a token.
#[utoipa::path(
    patch, path = "/service-tokens/{id}", operation_id = "updateServiceToken",
    params(TokenPath, IfMatch, LastAdmin),
    request_body(content(
        (UpdateRequest = "application/merge-patch+json"), (UpdateRequest = "application/json"),
    )),
    responses((status = 200, response = inline(TokenResponse))),
)]
pub(super) async fn update(
    State(state): SharedState,
    PathSegment(path): PathSegment,
    conditions: Conditions,
    request: Request,
) -> Outcome {
    let id = id(&path)?;
    let update = body::merge_patch::<UpdateRequest>(request).await?;
    let names = [("/expires_at", update.expiry_member())];
    let update = TokenUpdate::try_from(update)?;
    let (tokens, id) = conditions.tokens(&state, Some(id)).await?;
    let updated = tokens.update(id, update).await;
    let updated = updated.map_err(|error| with_sent_names(error, &names));
    changed(&state, updated)
}

/// Issues a new secret for a token.
#[utoipa::path(
    post, path = "/service-tokens/{id}/rotate", operation_id = "rotateServiceToken",
    params(TokenPath, IfMatch, IdempotencyKey), request_body = RotateRequest,
    responses((status = 200, description = "The token and its new secret. If the request repeats the \
        last rotation, with the same `Idempotency-Key`: the token without its secret.",
        body = inline(RotationResponse), headers(
            ("ETag" = String, description = "The revision of the token, for `If-Match`."),
            ("Idempotency-Replayed" = String, description = "`true` if the request repeats the last \
                rotation, otherwise absent.")))),
)]
pub(super) async fn rotate(
    State(state): SharedState,
    PathSegment(path): PathSegment,
    conditions: Conditions,
    key: RequestKey,
    request: Request,
) -> Outcome {
    rotate_token(&state, Some(id(&path)?), conditions, key, request).await
}

/// Issues a new secret for the caller's own token.
#[utoipa::path(
    post, path = "/service-tokens/self/rotate", operation_id = "rotateOwnServiceToken",
    params(IfMatch, IdempotencyKey), request_body = RotateRequest,
    responses((status = 200, description = "The token and its new secret. If the request repeats the \
        last rotation, with the same `Idempotency-Key`: the token without its secret.",
        body = inline(RotationResponse), headers(
            ("ETag" = String, description = "The revision of the token, for `If-Match`."),
            ("Idempotency-Replayed" = String, description = "`true` if the request repeats the last \
                rotation, otherwise absent.")))),
)]
pub(super) async fn rotate_own(
    State(state): SharedState,
    conditions: Conditions,
    key: RequestKey,
    request: Request,
) -> Outcome {
    rotate_token(&state, None, conditions, key, request).await
}

/// Disables a token.
#[utoipa::path(
    post, path = "/service-tokens/{id}/disable", operation_id = "disableServiceToken",
    params(TokenPath, IfMatch, LastAdmin),
    responses((status = 200, response = inline(TokenResponse))),
)]
pub(super) async fn disable(
    State(state): SharedState,
    PathSegment(path): PathSegment,
    conditions: Conditions,
) -> Outcome {
    let (tokens, id) = conditions.tokens(&state, Some(id(&path)?)).await?;
    changed(&state, tokens.disable(id).await)
}

/// Enables a disabled token.
#[utoipa::path(
    post, path = "/service-tokens/{id}/enable", operation_id = "enableServiceToken",
    params(TokenPath, IfMatch),
    responses((status = 200, response = inline(TokenResponse))),
)]
pub(super) async fn enable(
    State(state): SharedState,
    PathSegment(path): PathSegment,
    conditions: Conditions,
) -> Outcome {
    let (tokens, id) = conditions.tokens(&state, Some(id(&path)?)).await?;
    changed(&state, tokens.enable(id).await)
}

/// Revokes a token.
#[utoipa::path(
    delete, path = "/service-tokens/{id}", operation_id = "revokeServiceToken",
    params(TokenPath, IfMatch, LastAdmin),
    responses((status = 204, description = "The token is revoked.")),
)]
pub(super) async fn revoke(
    State(state): SharedState,
    PathSegment(path): PathSegment,
    conditions: Conditions,
) -> Outcome {
    let (tokens, id) = conditions.tokens(&state, Some(id(&path)?)).await?;
    revoked(&state, tokens.revoke(id).await)
}

/// Revokes the caller's own token.
#[utoipa::path(
    delete, path = "/service-tokens/self", operation_id = "revokeOwnServiceToken",
    params(IfMatch, LastAdmin),
    responses((status = 204, description = "The token is revoked.")),
)]
pub(super) async fn revoke_own(State(state): SharedState, conditions: Conditions) -> Outcome {
    let (tokens, id) = conditions.tokens(&state, None).await?;
    revoked(&state, tokens.revoke(id).await)
}

/// Rotates a token, or the caller's own.
async fn rotate_token(
    state: &HandlerState,
    id: Option<TokenId>,
    conditions: Conditions,
    RequestKey(key): RequestKey,
    request: Request,
) -> Outcome {
    let grace = Duration::try_from(body::optional::<RotateRequest>(request).await?)?;
    let (tokens, id) = conditions.tokens(state, id).await?;
    let issued = match key {
        Some(key) => tokens.rotate_once(id, grace, &key).await,
        None => tokens.rotate(id, grace).await,
    };
    let issued = match issued {
        Ok(issued) => issued,
        Err(LifecycleError::AlreadyRotated(token)) => {
            let response = state.replayed_response(&token.record);
            let within = token.effective_within;
            return Ok(body::with_effective_within(within, response));
        }
        Err(error) => return Err(state.change_error(error)),
    };
    let token = PresentedToken::new(issued.expose_secret());
    let rotated = RotatedResponse {
        grace_ends_at: issued.record().grace_ends_at(),
        service_token: state.info(issued.record()),
        token: token.map(PresentedToken::into_owned),
    };
    let response = with_etag(issued.record(), body::response(StatusCode::OK, &rotated));
    Ok(body::with_effective_within(
        issued.effective_within(),
        response,
    ))
}

fn revoked(state: &HandlerState, changed: Result<ChangedToken, LifecycleError>) -> Outcome {
    let changed = changed.map_err(|error| state.change_error(error))?;
    let response = StatusCode::NO_CONTENT.into_response();
    Ok(body::with_effective_within(
        changed.effective_within,
        response,
    ))
}

fn changed(state: &HandlerState, changed: Result<ChangedToken, LifecycleError>) -> Outcome {
    let changed = changed.map_err(|error| state.change_error(error))?;
    let response = state.token_response(&changed.record);
    Ok(body::with_effective_within(
        changed.effective_within,
        response,
    ))
}
