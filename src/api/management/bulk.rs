use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::super::caller::{Caller, writer};
use super::super::outcome::effective;
use super::body;
use super::endpoints::{Shared, json as answer};
use super::fields::Fields;
use super::list;
use super::problem::Problem;
use crate::lifecycle::LifecycleError;
use crate::token::TokenId;

pub(super) async fn handle(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let mut fields = Fields::new(body::object(request).await?);
    let mut wanted = Fields::at(
        "/filter",
        fields.object("filter").value().unwrap_or_default(),
    );
    let filter = list::filter(&mut wanted);
    let is_trial = fields.flag("dry_run").value().unwrap_or(false);
    let expect = fields.count("expect").value();
    wanted.finish()?;
    fields.finish()?;
    let tokens = shared.tokens_for(caller, Some(writer())).await?;
    if is_trial {
        let preview = tokens.revocable(filter).await;
        let preview = preview.map_err(|error| shared.refused(error))?;
        if expect.is_some_and(|expected| expected != preview.count) {
            let (expected, found) = (expect, preview.count);
            return Err(shared.refused(LifecycleError::UnexpectedCount { expected, found }));
        }
        let body = json!({
            "dry_run": true,
            "count": preview.count,
            "sample": texts(&preview.sample),
            "forbidden": preview.forbidden,
            "needs_expect": preview.needs_expect,
            "ends_administration": preview.ends_administration,
        });
        return Ok(answer(StatusCode::OK, &body));
    }
    let bulk = tokens.revoke_where(filter, expect).await;
    let bulk = bulk.map_err(|error| shared.refused(error))?;
    let body = json!({
        "dry_run": false,
        "ids": texts(&bulk.ids),
        "revoked": bulk.ids.len(),
        "remaining": bulk.remaining,
    });
    Ok(effective(
        bulk.effective_within,
        answer(StatusCode::OK, &body),
    ))
}

fn texts(ids: &[TokenId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}
