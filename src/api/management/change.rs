use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::super::caller::Caller;
use super::super::lifecycle_response::with_effective_within;
use super::super::path_segment::PathSegment;
use super::body;
use super::conditions::Conditions;
use super::endpoints::{ApiState, id, json_response};
use super::fields::{FieldValue, Fields};
use super::problem::Problem;
use crate::lifecycle::{ChangedToken, IssuedToken, LifecycleError, TokenUpdate};
use crate::token::TokenId;

type HandlerResult = Result<Response, Problem>;

pub(super) async fn get(
    State(state): State<Arc<ApiState>>,
    PathSegment(path): PathSegment,
) -> HandlerResult {
    state.get(id(&path)?).await
}

pub(super) async fn get_own(State(state): State<Arc<ApiState>>, caller: Caller) -> HandlerResult {
    let tokens = state.tokens_for(caller, None).await?;
    match tokens.own_record().await {
        Ok(record) => Ok(state.token_response(&record)),
        Err(LifecycleError::UnknownActor) => Err(Problem::not_found()),
        Err(error) => Err(state.problem(error)),
    }
}

pub(super) async fn update(
    State(state): State<Arc<ApiState>>,
    PathSegment(path): PathSegment,
    conditions: Conditions,
    request: Request,
) -> HandlerResult {
    let id = id(&path)?;
    let update = token_update(body::merge_patch(request).await?)?;
    let tokens = conditions.for_token(&state, id).await?;
    state.changed_response(tokens.update(id, update).await)
}

pub(super) async fn rotate(
    State(state): State<Arc<ApiState>>,
    PathSegment(path): PathSegment,
    conditions: Conditions,
    request: Request,
) -> HandlerResult {
    let id = id(&path)?;
    let grace = grace(request).await?;
    let tokens = conditions.for_token(&state, id).await?;
    state.rotated_response(tokens.rotate(id, grace).await)
}

pub(super) async fn rotate_own(
    State(state): State<Arc<ApiState>>,
    conditions: Conditions,
    request: Request,
) -> HandlerResult {
    let grace = grace(request).await?;
    let (tokens, id) = conditions.for_own(&state).await?;
    state.rotated_response(tokens.rotate(id, grace).await)
}

pub(super) async fn disable(
    State(state): State<Arc<ApiState>>,
    PathSegment(path): PathSegment,
    conditions: Conditions,
) -> HandlerResult {
    let id = id(&path)?;
    let tokens = conditions.for_token(&state, id).await?;
    state.changed_response(tokens.disable(id).await)
}

pub(super) async fn enable(
    State(state): State<Arc<ApiState>>,
    PathSegment(path): PathSegment,
    conditions: Conditions,
) -> HandlerResult {
    let id = id(&path)?;
    let tokens = conditions.for_token(&state, id).await?;
    state.changed_response(tokens.enable(id).await)
}

pub(super) async fn revoke(
    State(state): State<Arc<ApiState>>,
    PathSegment(path): PathSegment,
    conditions: Conditions,
) -> HandlerResult {
    let id = id(&path)?;
    let tokens = conditions.for_token(&state, id).await?;
    state.revoked_response(tokens.revoke(id).await)
}

pub(super) async fn revoke_own(
    State(state): State<Arc<ApiState>>,
    conditions: Conditions,
) -> HandlerResult {
    let (tokens, id) = conditions.for_own(&state).await?;
    state.revoked_response(tokens.revoke(id).await)
}

/// How long the current secret stays valid.
async fn grace(request: Request) -> Result<Duration, Problem> {
    let mut fields = Fields::new(body::optional_json_object(request).await?);
    let grace = fields.duration("grace").value().unwrap_or(Duration::ZERO);
    fields.finish()?;
    Ok(grace)
}

impl ApiState {
    async fn get(&self, id: TokenId) -> HandlerResult {
        let record = self.tokens().get(id).await;
        let record = record.map_err(|error| self.problem(error))?;
        Ok(self.token_response(&record))
    }

    fn rotated_response(&self, issued: Result<IssuedToken, LifecycleError>) -> HandlerResult {
        let issued = issued.map_err(|error| self.problem(error))?;
        let token = self.token_json(issued.record());
        let body = json!({
            "token": issued.expose_secret(),
            "grace_ends_at": token["grace_ends_at"],
            "service_token": token,
        });
        let response = json_response(StatusCode::OK, &body);
        Ok(with_effective_within(issued.effective_within(), response))
    }

    fn revoked_response(&self, changed: Result<ChangedToken, LifecycleError>) -> HandlerResult {
        let changed = changed.map_err(|error| self.problem(error))?;
        let response = StatusCode::NO_CONTENT.into_response();
        Ok(with_effective_within(changed.effective_within, response))
    }

    fn changed_response(&self, changed: Result<ChangedToken, LifecycleError>) -> HandlerResult {
        let changed = changed.map_err(|error| self.problem(error))?;
        Ok(with_effective_within(
            changed.effective_within,
            self.token_response(&changed.record),
        ))
    }
}

fn token_update(members: Map<String, Value>) -> Result<TokenUpdate, Problem> {
    let mut fields = Fields::new(members);
    let mut update = TokenUpdate::new();
    match fields.string("name") {
        FieldValue::Absent => {}
        FieldValue::Null => fields.problem("name", "a token has a name"),
        FieldValue::Value(name) => update = update.with_name(name),
    }
    update = match fields.string("description") {
        FieldValue::Absent => update,
        FieldValue::Null => update.without_description(),
        FieldValue::Value(text) => update.with_description(text),
    };
    update = match fields.string("subject") {
        FieldValue::Absent => update,
        FieldValue::Null => update.without_subject(),
        FieldValue::Value(text) => update.with_subject(text),
    };
    update = match fields.strings("roles") {
        FieldValue::Absent => update,
        given => update.with_roles(given.value().unwrap_or_default()),
    };
    update = match fields.strings("scopes") {
        FieldValue::Absent => update,
        given => update.with_scopes(given.value().unwrap_or_default()),
    };
    update = labels(&mut fields, update);
    update = match fields.timestamp("not_before") {
        FieldValue::Absent => update,
        FieldValue::Null => update.without_not_before(),
        FieldValue::Value(time) => update.with_not_before(time),
    };
    if let Some(expiry) = fields.expiry() {
        update = update.with_expiry(expiry);
    }
    fields.finish()?;
    Ok(update)
}

/// Patched one by one, as RFC 7396 has it.
fn labels(fields: &mut Fields, mut update: TokenUpdate) -> TokenUpdate {
    match fields.object("labels") {
        FieldValue::Absent => {}
        FieldValue::Null => update = update.without_labels(),
        FieldValue::Value(labels) => {
            for (key, value) in labels {
                update = match value {
                    Value::String(value) => update.with_label(key, value),
                    Value::Null => update.without_label(key),
                    _ => {
                        fields.problem("labels", "not an object of strings");
                        update
                    }
                };
            }
        }
    }
    update
}
