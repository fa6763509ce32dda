use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::error::ErrorResponse;
use super::expiry::{displayed, from_millis, millis};
use crate::api::body;
use crate::api::caller::{Caller, PathSegment, Reader};
use crate::api::entity_tag;
use crate::api::guard::write_requirement;
use crate::api::listing::{ListFormat, ListWriter};
use crate::api::state::ApiState;
use crate::lifecycle::{LifecycleError, NewToken};
use crate::observe::RequestInfo;
use crate::registry::TokenFilter;
use crate::store::{TokenRecord, TokenState};
use crate::token::id::parse_decimal;
use crate::wire::SaturatingInteger;

pub(super) type HandlerState = ApiState<ListWriter>;

/// The body of a creation. The tool always sends a subject, and an empty one for none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", expecting = "an object")]
struct CreateRequest {
    name: Option<String>,
    roles: Option<Vec<String>>,
    dedicated_subject: Option<String>,
    expiry_date: Option<SaturatingInteger>,
}

#[derive(Serialize)]
struct CreateResponse<'a> {
    name: &'a str,
    token: &'a str,
    expiration: Option<i64>,
}

/// A token of a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Token<'a> {
    id: i64,
    name: &'a str,
    roles: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dedicated_subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update_timestamp: Option<i64>,
}

pub(super) async fn create(
    State(state): State<Arc<HandlerState>>,
    caller: Caller,
    request: Request,
) -> Result<Response, ErrorResponse> {
    entity_tag::require_no_entity_tags(request.headers())?;
    let request: CreateRequest = body::parse(&body::read(request).await?)?;
    let mut new = NewToken::new(request.name.unwrap_or_default());
    new = new.with_roles(request.roles.unwrap_or_default());
    if let Some(subject) = request.dedicated_subject.filter(|it| !it.is_empty()) {
        new = new.with_subject(subject);
    }
    if let Some(SaturatingInteger(typed)) = request.expiry_date {
        new = new.with_expiry(from_millis(typed));
    }
    let tokens = caller
        .tokens_to_change(&state, Some(write_requirement()))
        .await?;
    let issued = tokens.create(new).await;
    let issued = issued.map_err(|error| state.change_error(error))?;
    let response = CreateResponse {
        name: issued.record().name(),
        token: issued.expose_secret(),
        expiration: issued.record().expires_at().and_then(displayed),
    };
    Ok(body::response(StatusCode::OK, &response))
}

pub(super) async fn list(
    State(state): State<Arc<HandlerState>>,
    Reader(tokens): Reader,
    request: RequestInfo,
) -> Result<Response, ErrorResponse> {
    let filter = TokenFilter::new().without_revoked();
    let report = state.failure_report(request);
    let lists = &state.extra;
    let list = lists.write(tokens, filter, TokenList, report);
    let list = list.await;
    let list = list.map_err(|error| state.error(error))?;
    Ok(body::with_json(StatusCode::OK.into_response(), list))
}

/// An array of tokens.
struct TokenList;

impl ListFormat for TokenList {
    fn prefix(&self) -> &'static str {
        "["
    }

    fn token(&self, record: &TokenRecord) -> String {
        let token = Token {
            id: record.id().number(),
            name: record.name(),
            roles: record.roles().iter().collect(),
            expiration: record.expires_at().and_then(displayed),
            dedicated_subject: record.subject(),
            description: record.description(),
            last_update_timestamp: record.updated_at().and_then(millis),
        };
        serde_json::to_string(&token).expect("a token is plain data")
    }

    fn suffix(&self, _: usize) -> String {
        "]".to_owned()
    }
}

pub(super) async fn revoke(
    State(state): State<Arc<HandlerState>>,
    PathSegment(id): PathSegment,
    headers: HeaderMap,
    caller: Caller,
) -> Result<Response, ErrorResponse> {
    let revisions = entity_tag::revisions(&headers)?;
    let failed = |error| state.change_error(error);
    let number = parse_decimal(&id).ok_or_else(|| failed(LifecycleError::NotFound))?;
    let tokens = caller
        .tokens_to_change(&state, Some(write_requirement()))
        .await?;
    let id = tokens.get_by_number(number).await.map_err(failed)?.id();
    // A caller that may not change the token does not learn its state.
    let record = tokens.get_to_change(id).await.map_err(failed)?;
    if record.state() == TokenState::Revoked {
        return Err(failed(LifecycleError::NotFound));
    }
    let tokens = tokens.if_one_of_revisions(revisions);
    tokens.revoke(id).await.map_err(failed)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
