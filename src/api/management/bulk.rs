use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::conditions::ListCondition;
use super::problem::Problem;
use super::state::SharedState;
use crate::api::body;
use crate::api::caller::Caller;
use crate::api::guard::write_requirement;
use crate::lifecycle::LifecycleError;
use crate::wire::{BulkPreviewResponse, BulkRequest, BulkRevocationResponse, FieldProblems};

/// The tokens that a call revoked, or would revoke.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ServiceTokenBulkResponse)]
#[serde(untagged)]
enum BulkResponse {
    Preview(BulkPreviewResponse),
    Revocation(BulkRevocationResponse),
}

/// Revokes the tokens that match a filter.
#[utoipa::path(
    post, path = "/service-tokens/revoke", operation_id = "revokeServiceTokens",
    request_body = BulkRequest,
    responses((status = 200, description = "The tokens that the call revoked, or would revoke.",
        body = inline(BulkResponse))),
)]
pub(super) async fn handle(
    State(state): SharedState,
    caller: Caller,
    _: ListCondition,
    request: Request,
) -> Result<Response, Problem> {
    let BulkRequest {
        filter,
        dry_run,
        expect,
    } = body::json(request).await?;
    let mut problems = FieldProblems::default();
    let filter = filter.unwrap_or_default().parse("/filter", &mut problems);
    let filter = problems.finish(filter)?;
    if dry_run == Some(true) {
        let tokens = caller.tokens(&state, Some(write_requirement())).await?;
        let preview = tokens.preview_revocation(filter).await;
        let preview = preview.map_err(|error| state.error(error))?;
        if expect.is_some_and(|expected| expected != preview.count) {
            let (expected, found) = (expect, preview.count);
            return Err(state.error(LifecycleError::UnexpectedCount { expected, found }));
        }
        let preview = BulkResponse::Preview(BulkPreviewResponse::from(&preview));
        return Ok(body::response(StatusCode::OK, &preview));
    }
    let tokens = caller.tokens_to_change(&state, Some(write_requirement()));
    let bulk = tokens.await?.revoke_where(filter, expect).await;
    let bulk = bulk.map_err(|error| state.change_error(error))?;
    let revoked = BulkRevocationResponse::new(&bulk.ids, bulk.remaining);
    let response = body::response(StatusCode::OK, &BulkResponse::Revocation(revoked));
    Ok(body::with_effective_within(bulk.effective_within, response))
}
