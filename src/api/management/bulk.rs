use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::super::caller::{Caller, write_requirement};
use super::super::lifecycle_response::with_effective_within;
use super::body;
use super::endpoints::{ApiState, json_response};
use super::fields::Fields;
use super::list;
use super::problem::Problem;
use crate::lifecycle::LifecycleError;
use crate::token::TokenId;

pub(super) async fn handle(
    State(state): State<Arc<ApiState>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let mut fields = Fields::new(body::json_object(request).await?);
    let mut filter_fields = Fields::with_pointer_prefix(
        "/filter",
        fields.object("filter").value().unwrap_or_default(),
    );
    let filter = list::filter(&mut filter_fields);
    let is_dry_run = fields.boolean("dry_run").value().unwrap_or(false);
    let expect = fields.count("expect").value();
    filter_fields.finish()?;
    fields.finish()?;
    let tokens = state.tokens_for(caller, Some(write_requirement())).await?;
    if is_dry_run {
        let preview = tokens.preview_revocation(filter).await;
        let preview = preview.map_err(|error| state.problem(error))?;
        if expect.is_some_and(|expected| expected != preview.count) {
            let (expected, found) = (expect, preview.count);
            return Err(state.problem(LifecycleError::UnexpectedCount { expected, found }));
        }
        let body = json!({
            "dry_run": true,
            "count": preview.count,
            "sample": id_strings(&preview.sample),
            "forbidden": preview.forbidden,
            "needs_expect": preview.needs_expect,
            "ends_administration": preview.ends_administration,
        });
        return Ok(json_response(StatusCode::OK, &body));
    }
    let bulk = tokens.revoke_where(filter, expect).await;
    let bulk = bulk.map_err(|error| state.problem(error))?;
    let body = json!({
        "dry_run": false,
        "ids": id_strings(&bulk.ids),
        "revoked": bulk.ids.len(),
        "remaining": bulk.remaining,
    });
    Ok(with_effective_within(
        bulk.effective_within,
        json_response(StatusCode::OK, &body),
    ))
}

fn id_strings(ids: &[TokenId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}
