use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::body;
use super::super::caller::Caller;
use super::super::listing::ListFormat;
use super::super::path_segment::PathSegment;
use super::endpoints::ApiState;
use super::error::ErrorResponse;
use super::expiry::{displayed_millis, from_millis, millis};
use crate::lifecycle::{Expiry, LifecycleError, NewToken};
use crate::observe::RequestInfo;
use crate::registry::TokenFilter;
use crate::store::{TokenRecord, TokenState};
use crate::token::TokenId;

/// What the tool sends. A subject is always there, and empty for none.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateRequest {
    name: String,
    #[serde(default)]
    roles: Vec<String>,
    dedicated_subject: Option<String>,
    expiry_date: Option<i64>,
}

pub(super) async fn create(
    State(state): State<Arc<ApiState>>,
    caller: Caller,
    request: Request,
) -> Result<Response, ErrorResponse> {
    let body = body::read(request).await;
    let body = body.map_err(|error| state.error(error.status(), &error.to_string()))?;
    // The error is not repeated: its excerpt of the body may be a secret.
    let create: CreateRequest = serde_json::from_slice(&body)
        .map_err(|_| state.bad_request("the body is not what creates a service token"))?;
    let mut new = NewToken::new(create.name).with_roles(create.roles);
    if let Some(subject) = create
        .dedicated_subject
        .filter(|subject| !subject.is_empty())
    {
        new = new.with_subject(subject);
    }
    if let Some(typed) = create.expiry_date {
        let end =
            from_millis(typed).ok_or_else(|| state.invalid_expiry("not a date of 1970 to 9999"))?;
        new = new.with_expiry(Expiry::at(end));
    }
    let issued = state.tokens_for(caller).await?.create(new).await;
    let issued = issued.map_err(|error| state.error_response(error))?;
    let body = json!({
        "name": issued.record().name(),
        "token": issued.expose_secret(),
        "expiration": issued.record().expires_at().and_then(displayed_millis),
    });
    Ok(([(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

pub(super) async fn list(
    State(state): State<Arc<ApiState>>,
    request: RequestInfo,
) -> Result<Response, ErrorResponse> {
    let filter = TokenFilter::new().without_revoked();
    let report = state.failure_report(request);
    let list = state
        .lists
        .write(state.tokens.clone(), filter, TokenList, report);
    let list = list.await.map_err(|error| state.error_response(error))?;
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, list).into_response())
}

/// An array of tokens.
struct TokenList;

impl ListFormat for TokenList {
    fn prefix(&self) -> &'static str {
        "["
    }

    fn token(&self, record: &TokenRecord) -> Value {
        token_json(record)
    }

    fn suffix(&self, _: usize) -> String {
        "]".to_owned()
    }
}

pub(super) async fn revoke(
    State(state): State<Arc<ApiState>>,
    PathSegment(id): PathSegment,
    caller: Caller,
) -> Result<Response, ErrorResponse> {
    let id = id.parse().ok().and_then(TokenId::from_i64);
    let missing = || state.error_response(LifecycleError::NotFound);
    let id = id.ok_or_else(missing)?;
    let record = state.tokens.get(id).await;
    let record = record.map_err(|error| state.error_response(error))?;
    if record.state() == TokenState::Revoked {
        return Err(missing());
    }
    let revoked = state.tokens_for(caller).await?.revoke(id).await;
    revoked.map_err(|error| state.error_response(error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A token as the tool lists it; what there is not is left out.
fn token_json(record: &TokenRecord) -> Value {
    let mut token = json!({
        "id": record.id().as_i64(),
        "name": record.name(),
        "roles": record.roles().iter().collect::<Vec<_>>(),
    });
    let members = [
        (
            "expiration",
            record
                .expires_at()
                .and_then(displayed_millis)
                .map(Value::from),
        ),
        ("dedicatedSubject", record.subject().map(Value::from)),
        ("description", record.description().map(Value::from)),
        (
            "lastUpdateTimestamp",
            record.updated_at().and_then(millis).map(Value::from),
        ),
    ];
    for (name, value) in members {
        if let Some(value) = value {
            token[name] = value;
        }
    }
    token
}
