use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::super::body;
use super::super::caller::{Caller, PathSegment};
use super::super::guard::write_requirement;
use super::super::listing::{ListFormat, ListWriter};
use super::super::state::ApiState;
use super::response::{ErrorResponse, success};
use super::token::{CreateRequest, Token, UpdateRequest};
use super::workspace;
use crate::lifecycle::FieldProblem;
use crate::observe::RequestInfo;
use crate::registry::TokenFilter;
use crate::store::{TokenRecord, TokenState};
use crate::token::TokenId;

type Outcome = Result<Response, ErrorResponse>;

pub(super) type HandlerState = ApiState<PipeOps>;

/// What only this API shares.
pub(super) struct PipeOps {
    pub(super) default_workspace: Box<str>,
    pub(super) lists: ListWriter,
}

impl HandlerState {
    fn token<'a>(&'a self, record: &'a TokenRecord) -> Token<'a> {
        Token::new(record, &self.extra.default_workspace)
    }
}

/// The data of a response with one token.
#[derive(Serialize)]
struct OneToken<'a> {
    token: Token<'a>,
}

pub(super) async fn create(
    State(state): State<Arc<HandlerState>>,
    RawQuery(query): RawQuery,
    caller: Caller,
    request: Request,
) -> Outcome {
    let request: CreateRequest = body::json(request).await?;
    let workspaces = workspace::from_query(query.as_deref());
    let new = request.into_new_token(workspaces, &state.extra.default_workspace)?;
    let tokens = caller.tokens(&state, Some(write_requirement())).await?;
    let issued = tokens.create(new).await;
    let issued = issued.map_err(|error| state.error(error))?;
    let token = state.token(issued.record());
    let token = token.with_secret(issued.expose_secret());
    let message = "service account token created";
    Ok(one_token(StatusCode::CREATED, message, token))
}

pub(super) async fn list(
    State(state): State<Arc<HandlerState>>,
    RawQuery(query): RawQuery,
    request: RequestInfo,
) -> Outcome {
    let mut workspaces = workspace::from_query(query.as_deref());
    let workspace = workspaces.pop_first();
    if !workspaces.is_empty() {
        return Err(vec![FieldProblem::new(workspace::POINTER, workspace::TWO)].into());
    }
    let filter = TokenFilter::new().without_revoked();
    let filter = match workspace {
        None => filter,
        Some(uuid) if *uuid == *state.extra.default_workspace => {
            filter.with_label_or_none(workspace::LABEL, uuid)
        }
        Some(uuid) => filter.with_label(workspace::LABEL, uuid),
    };
    let report = state.failure_report(request);
    let format = TokenList(Arc::clone(&state));
    let lists = &state.extra.lists;
    let list = lists.write(state.tokens.clone(), filter, format, report);
    let list = list.await;
    let list = list.map_err(|error| state.error(error))?;
    Ok(body::with_json(StatusCode::OK.into_response(), list))
}

/// The success response with a list of tokens.
struct TokenList(Arc<HandlerState>);

impl ListFormat for TokenList {
    fn prefix(&self) -> &'static str {
        r#"{"data":{"tokens":["#
    }

    fn token(&self, record: &TokenRecord) -> String {
        let token = self.0.token(record);
        serde_json::to_string(&token).expect("a token is plain data")
    }

    fn suffix(&self, total: usize) -> String {
        let message = "service account tokens";
        format!(r#"],"total":{total}}},"message":"{message}","status":"success","success":true}}"#)
    }
}

pub(super) async fn get(
    State(state): State<Arc<HandlerState>>,
    PathSegment(path): PathSegment,
) -> Outcome {
    let record = state.tokens.get(id(&path)?).await;
    let record = record.map_err(|error| state.error(error))?;
    if record.state() == TokenState::Revoked {
        return Err(ErrorResponse::not_found());
    }
    let token = state.token(&record);
    let message = "service account token";
    Ok(one_token(StatusCode::OK, message, token))
}

pub(super) async fn update(
    State(state): State<Arc<HandlerState>>,
    PathSegment(path): PathSegment,
    caller: Caller,
    request: Request,
) -> Outcome {
    let id = id(&path)?;
    let request: UpdateRequest = body::json(request).await?;
    let only_state = request.only_state();
    let update = request.into_update()?;
    let tokens = caller.tokens(&state, Some(write_requirement())).await?;
    let changed = match only_state {
        Some(TokenState::Active) => tokens.enable(id).await,
        Some(_) => tokens.disable(id).await,
        None => tokens.update(id, update).await,
    };
    let changed = changed.map_err(|error| state.error(error))?;
    let token = state.token(&changed.record);
    let message = "service account token updated";
    Ok(one_token(StatusCode::OK, message, token))
}

pub(super) async fn revoke(
    State(state): State<Arc<HandlerState>>,
    PathSegment(path): PathSegment,
    caller: Caller,
) -> Outcome {
    let id = id(&path)?;
    let tokens = caller.tokens(&state, Some(write_requirement())).await?;
    let revoked = tokens.revoke(id).await;
    revoked.map_err(|error| state.error(error))?;
    let message = "service account token revoked";
    Ok(success(StatusCode::OK, message, None::<()>))
}

pub(super) async fn workspaces(State(state): State<Arc<HandlerState>>) -> Response {
    let uuid = &state.extra.default_workspace;
    let data = json!([{ "uuid": uuid, "id": uuid, "name": uuid }]);
    success(StatusCode::OK, "there is one workspace", Some(data))
}

fn one_token(status: StatusCode, message: &str, token: Token<'_>) -> Response {
    success(status, message, Some(OneToken { token }))
}

/// Parses the id in a path. A malformed id names no token.
fn id(path: &str) -> Result<TokenId, ErrorResponse> {
    path.parse().map_err(|_| ErrorResponse::not_found())
}
