use std::collections::BTreeSet;
use std::iter;
use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::response::{ErrorResponse, success};
use super::token::{CreateRequest, Token, UpdateRequest};
use super::workspace;
use crate::api::body;
use crate::api::caller::{Caller, PathSegment, Reader};
use crate::api::entity_tag::{self, with_etag};
use crate::api::error::with_sent_names;
use crate::api::guard::{read_requirement, write_requirement};
use crate::api::listing::{ListFormat, ListWriter};
use crate::api::state::ApiState;
use crate::lifecycle::ServiceTokens;
use crate::observe::RequestInfo;
use crate::principal::Principal;
use crate::registry::TokenFilter;
use crate::store::{TokenRecord, TokenState, TokenStatus};
use crate::token::TokenId;

const CREATED: &str = "service account token created";

type Outcome = Result<Response, ErrorResponse>;

pub(super) type HandlerState = ApiState<PipeOps>;

/// What only this API shares.
pub(super) struct PipeOps {
    pub(super) default_workspace: Box<str>,
    pub(super) lists: ListWriter,
}

impl HandlerState {
    fn token<'a>(&'a self, record: &'a TokenRecord) -> Token<'a> {
        let now = self.checker.clock.now();
        Token::new(record, &self.extra.default_workspace, now)
    }

    /// Returns an error if the token is not in `workspace`.
    fn check_workspace(
        &self,
        record: &TokenRecord,
        workspace: Option<&str>,
    ) -> Result<(), ErrorResponse> {
        let actual = workspace::of_token(record, &self.extra.default_workspace);
        match workspace {
            Some(expected) if expected != actual => Err(ErrorResponse::not_found()),
            _ => Ok(()),
        }
    }

    /// Checks the workspace before a change, if the request names one.
    async fn check_workspace_of(
        &self,
        tokens: &ServiceTokens,
        id: TokenId,
        workspace: Option<&str>,
    ) -> Result<(), ErrorResponse> {
        if workspace.is_none() {
            return Ok(());
        }
        // A caller that may not change the token does not learn its workspace.
        let record = tokens.get_to_change(id).await;
        let record = record.map_err(|error| self.change_error(error))?;
        self.check_workspace(&record, workspace)
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
    entity_tag::require_no_entity_tags(request.headers())?;
    let request: CreateRequest = body::json(request).await?;
    let workspaces = workspace::all_from_query(query.as_deref());
    let (preset, names) = (request.preset(), request.names());
    let new = request.into_new_token(workspaces, &state.extra.default_workspace)?;
    let tokens = caller.tokens_to_change(&state, Some(write_requirement()));
    let issued = tokens.await?.create(new).await;
    let issued = issued.map_err(|error| state.change_error(with_sent_names(error, &names)))?;
    let token = state.token(issued.record());
    let token = token.with_secret(issued.expose_secret());
    let message = match preset {
        None => CREATED.to_owned(),
        Some(preset) => {
            format!("{CREATED}; the preset {preset} grants nothing here, only permissions do")
        }
    };
    let response = one_token(StatusCode::CREATED, &message, token);
    Ok(with_etag(issued.record(), response))
}

pub(super) async fn list(
    State(state): State<Arc<HandlerState>>,
    Reader(tokens): Reader,
    RawQuery(query): RawQuery,
    request: RequestInfo,
) -> Outcome {
    let workspace = workspace::from_query(query.as_deref())?;
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
    let list = lists.write(tokens, filter, format, report);
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
    Reader(tokens): Reader,
    PathSegment(path): PathSegment,
    RawQuery(query): RawQuery,
) -> Outcome {
    let workspace = workspace::from_query(query.as_deref())?;
    let record = tokens.get(id(&path)?).await;
    let record = record.map_err(|error| state.error(error))?;
    if record.state() == TokenState::Revoked {
        return Err(ErrorResponse::not_found());
    }
    state.check_workspace(&record, workspace.as_deref())?;
    let token = state.token(&record);
    let message = "service account token";
    let response = one_token(StatusCode::OK, message, token);
    Ok(with_etag(&record, response))
}

pub(super) async fn update(
    State(state): State<Arc<HandlerState>>,
    PathSegment(path): PathSegment,
    RawQuery(query): RawQuery,
    caller: Caller,
    request: Request,
) -> Outcome {
    let id = id(&path)?;
    let workspace = workspace::from_query(query.as_deref())?;
    let revisions = entity_tag::revisions(request.headers())?;
    let request: UpdateRequest = body::json(request).await?;
    let (only_state, names) = (request.only_state(), request.names());
    let update = request.into_update()?;
    let tokens = caller
        .tokens_to_change(&state, Some(write_requirement()))
        .await?;
    state
        .check_workspace_of(&tokens, id, workspace.as_deref())
        .await?;
    let tokens = tokens.if_one_of_revisions(revisions);
    let changed = match only_state {
        Some(TokenState::Active) => tokens.enable(id).await,
        Some(_) => tokens.disable(id).await,
        None => tokens.update(id, update).await,
    };
    let changed = changed.map_err(|error| state.change_error(with_sent_names(error, &names)))?;
    let token = state.token(&changed.record);
    let message = match changed.record.status(state.checker.clock.now()) {
        TokenStatus::Expired => {
            "service account token updated; it has expired, so it is not active"
        }
        _ => "service account token updated",
    };
    let response = one_token(StatusCode::OK, message, token);
    Ok(with_etag(&changed.record, response))
}

pub(super) async fn revoke(
    State(state): State<Arc<HandlerState>>,
    PathSegment(path): PathSegment,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    caller: Caller,
) -> Outcome {
    let id = id(&path)?;
    let workspace = workspace::from_query(query.as_deref())?;
    let revisions = entity_tag::revisions(&headers)?;
    let tokens = caller
        .tokens_to_change(&state, Some(write_requirement()))
        .await?;
    state
        .check_workspace_of(&tokens, id, workspace.as_deref())
        .await?;
    let revoked = tokens.if_one_of_revisions(revisions).revoke(id).await;
    revoked.map_err(|error| state.change_error(error))?;
    let message = "service account token revoked";
    Ok(success(StatusCode::OK, message, None::<()>))
}

/// Returns the default workspace, then those that tokens have which the caller sees. A caller that may not list tokens gets
/// only the first.
pub(super) async fn workspaces(
    State(state): State<Arc<HandlerState>>,
    Reader(tokens): Reader,
    principal: Principal,
) -> Outcome {
    let default = &*state.extra.default_workspace;
    let mut others = BTreeSet::new();
    if principal.require(read_requirement()).is_ok() {
        let filter = TokenFilter::new().without_revoked();
        let lists = &state.extra.lists;
        let listed = lists.for_each(&tokens, &filter, |record| {
            let uuid = workspace::of_token(record, default);
            if uuid != default && !others.contains(uuid) {
                others.insert(uuid.to_owned());
            }
        });
        listed.await.map_err(|error| state.error(error))?;
    }
    let uuids = iter::once(default).chain(others.iter().map(String::as_str));
    let workspaces = uuids.map(|uuid| json!({ "uuid": uuid, "id": uuid, "name": uuid }));
    let data: Vec<_> = workspaces.collect();
    Ok(success(StatusCode::OK, "workspaces", Some(data)))
}

fn one_token(status: StatusCode, message: &str, token: Token<'_>) -> Response {
    success(status, message, Some(OneToken { token }))
}

/// Parses the id in a path. A malformed id names no token.
fn id(path: &str) -> Result<TokenId, ErrorResponse> {
    path.parse().map_err(|_| ErrorResponse::not_found())
}
