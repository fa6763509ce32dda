use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::super::outcome::effective;
use super::body;
use super::endpoints::{Shared, json as answer};
use super::fields::Fields;
use super::list;
use super::problem::Problem;
use crate::lifecycle::LifecycleError;
use crate::principal::Principal;
use crate::token::TokenId;

pub(super) async fn handle(
    State(shared): State<Arc<Shared>>,
    caller: Principal,
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
    let tokens = shared.tokens_for(caller);
    if is_trial {
        let ids = tokens.revocable(filter).await;
        let ids = ids.map_err(|error| shared.refused(error))?;
        if let Some(expected) = expect.filter(|expected| *expected != ids.len()) {
            let found = ids.len();
            return Err(shared.refused(LifecycleError::UnexpectedCount { expected, found }));
        }
        return Ok(answer(StatusCode::OK, &told(&ids, true)));
    }
    let revoked = tokens.revoke_where(filter, expect).await;
    let revoked = revoked.map_err(|error| shared.refused(error))?;
    let response = answer(StatusCode::OK, &told(&revoked.ids, false));
    Ok(effective(revoked.effective_within, response))
}

fn told(ids: &[TokenId], is_trial: bool) -> Value {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    json!({ "ids": ids, "dry_run": is_trial })
}
