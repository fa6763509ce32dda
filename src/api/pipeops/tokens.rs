use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::super::body;
use super::super::caller::Caller;
use super::super::fields::{FieldValue, Fields};
use super::super::listing::ListFormat;
use super::super::path_segment::PathSegment;
use super::endpoints::ApiState;
use super::response::{ErrorResponse, success_response, with_body};
use super::workspace;
use crate::lifecycle::{FieldProblem, NewToken, TokenUpdate};
use crate::observe::RequestInfo;
use crate::registry::TokenFilter;
use crate::store::{TokenRecord, TokenState};
use crate::token::TokenId;

type HandlerResult = Result<Response, ErrorResponse>;

pub(super) async fn create(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
    caller: Caller,
    request: Request,
) -> HandlerResult {
    let mut fields = Fields::new(members(request).await?);
    let new = new_token(&mut fields);
    let mut workspaces = workspace::from_query(query.as_deref());
    let in_body = fields.string(workspace::PARAMETER).value();
    workspaces.extend(in_body.filter(|uuid| !uuid.is_empty()));
    if workspaces.len() > 1 {
        fields.problem(workspace::PARAMETER, "two workspaces are named");
    }
    fields.finish()?;
    let workspace = workspaces.pop_first();
    let workspace = workspace.unwrap_or_else(|| state.default_workspace.to_string());
    let new = new.with_label(workspace::LABEL, workspace);
    let issued = state.tokens_for(caller).await?.create(new).await;
    let issued = issued.map_err(|error| state.error_response(error))?;
    let mut token = state.token_json(issued.record());
    token["token"] = json!(issued.expose_secret());
    let data = json!({ "token": token });
    let message = "service account token created";
    Ok(success_response(StatusCode::CREATED, message, Some(data)))
}

pub(super) async fn list(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
    request: RequestInfo,
) -> HandlerResult {
    let mut workspaces = workspace::from_query(query.as_deref());
    let workspace = workspaces.pop_first();
    if !workspaces.is_empty() {
        let pointer = format!("/{}", workspace::PARAMETER);
        return Err(vec![FieldProblem::new(pointer, "two workspaces are named")].into());
    }
    let filter = TokenFilter::new().without_revoked();
    let filter = match workspace {
        None => filter,
        Some(uuid) if *uuid == *state.default_workspace => {
            filter.with_label_or_none(workspace::LABEL, uuid)
        }
        Some(uuid) => filter.with_label(workspace::LABEL, uuid),
    };
    let report = state.failure_report(request);
    let format = TokenList(Arc::clone(&state));
    let list = state
        .lists
        .write(state.tokens.clone(), filter, format, report);
    let list = list.await.map_err(|error| state.error_response(error))?;
    Ok(with_body(StatusCode::OK.into_response(), list))
}

/// The answer with the tokens of a list, as [`success_response`] would write it.
struct TokenList(Arc<ApiState>);

impl ListFormat for TokenList {
    fn prefix(&self) -> &'static str {
        r#"{"data":{"tokens":["#
    }

    fn token(&self, record: &TokenRecord) -> Value {
        self.0.token_json(record)
    }

    fn suffix(&self, total: usize) -> String {
        let message = "service account tokens";
        format!(r#"],"total":{total}}},"message":"{message}","status":"success","success":true}}"#)
    }
}

pub(super) async fn get(
    State(state): State<Arc<ApiState>>,
    PathSegment(path): PathSegment,
) -> HandlerResult {
    let id = id(&path).ok_or_else(ErrorResponse::not_found)?;
    let record = state.tokens.get(id).await;
    let record = record.map_err(|error| state.error_response(error))?;
    if record.state() == TokenState::Revoked {
        return Err(ErrorResponse::not_found());
    }
    Ok(token_response(&state, "service account token", &record))
}

pub(super) async fn update(
    State(state): State<Arc<ApiState>>,
    PathSegment(path): PathSegment,
    caller: Caller,
    request: Request,
) -> HandlerResult {
    let id = id(&path).ok_or_else(ErrorResponse::not_found)?;
    let members = members(request).await?;
    let changes_only_activity = members.keys().eq(["is_active"]);
    let mut fields = Fields::new(members);
    let is_active = fields.boolean("is_active").value();
    let update = token_update(&mut fields);
    fields.finish()?;
    let tokens = state.tokens_for(caller).await?;
    let changed = match is_active {
        // Nothing is granted by a token that is switched off.
        Some(false) if changes_only_activity => tokens.disable(id).await,
        Some(true) if changes_only_activity => tokens.enable(id).await,
        Some(false) => {
            tokens
                .update(id, update.with_state(TokenState::Disabled))
                .await
        }
        Some(true) => {
            tokens
                .update(id, update.with_state(TokenState::Active))
                .await
        }
        None => tokens.update(id, update).await,
    };
    let changed = changed.map_err(|error| state.error_response(error))?;
    let message = "service account token updated";
    Ok(token_response(&state, message, &changed.record))
}

pub(super) async fn revoke(
    State(state): State<Arc<ApiState>>,
    PathSegment(path): PathSegment,
    caller: Caller,
) -> HandlerResult {
    let id = id(&path).ok_or_else(ErrorResponse::not_found)?;
    let revoked = state.tokens_for(caller).await?.revoke(id).await;
    revoked.map_err(|error| state.error_response(error))?;
    let message = "service account token revoked";
    Ok(success_response(StatusCode::OK, message, None))
}

fn token_response(state: &ApiState, message: &str, record: &TokenRecord) -> Response {
    let data = json!({ "token": state.token_json(record) });
    success_response(StatusCode::OK, message, Some(data))
}

/// The id in a path. What is none names no token.
fn id(path: &str) -> Option<TokenId> {
    path.parse().ok()
}

/// The members of a body that say something.
async fn members(request: Request) -> Result<Map<String, Value>, ErrorResponse> {
    let mut members = body::json_object(request).await?;
    members.retain(|_, value| !value.is_null());
    if let Some(days) = members.get("expires_in").and_then(Value::as_i64) {
        members.insert("expires_in".to_owned(), format!("{days}d").into());
    }
    Ok(members)
}

fn new_token(fields: &mut Fields) -> NewToken {
    let mut new = NewToken::new(fields.string("name").value().unwrap_or_default());
    if let FieldValue::Value(text) = fields.string("description")
        && !text.is_empty()
    {
        new = new.with_description(text);
    }
    if let Some(scopes) = scopes(fields) {
        new = new.with_scopes(scopes);
    }
    if let Some(expiry) = fields.expiry() {
        new = new.with_expiry(expiry);
    }
    fields.string("preset");
    new
}

fn token_update(fields: &mut Fields) -> TokenUpdate {
    let mut update = TokenUpdate::new();
    if let FieldValue::Value(name) = fields.string("name") {
        update = update.with_name(name);
    }
    update = match fields.string("description").value() {
        None => update,
        Some(text) if text.is_empty() => update.without_description(),
        Some(text) => update.with_description(text),
    };
    if let Some(scopes) = scopes(fields) {
        update = update.with_scopes(scopes);
    }
    if let Some(expiry) = fields.expiry() {
        update = update.with_expiry(expiry);
    }
    update
}

/// What is granted, under either of its names.
fn scopes(fields: &mut Fields) -> Option<Vec<String>> {
    let [permissions, scopes] = ["permissions", "scopes"].map(|name| fields.strings(name).value());
    let (Some(permissions), Some(scopes)) = (&permissions, &scopes) else {
        return permissions.or(scopes);
    };
    let [some, others] = [permissions, scopes].map(|list| list.iter().collect::<BTreeSet<_>>());
    if !some.is_empty() && !others.is_empty() && some != others {
        fields.problem("scopes", "not the same as permissions");
    }
    let granted = if some.is_empty() { scopes } else { permissions };
    Some(granted.clone())
}
