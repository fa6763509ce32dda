use std::sync::Arc;

use axum::extract::{OriginalUri, Request, State};
use axum::response::Response;
use http::header::LOCATION;
use http::{HeaderName, HeaderValue, StatusCode, Uri};
use serde_json::{Map, Value, json};

use super::super::caller::{Caller, write_requirement};
use super::super::lifecycle_response::with_effective_within;
use super::endpoints::{ApiState, json_response};
use super::fields::{FieldValue, Fields};
use super::problem::Problem;
use super::{body, idempotency_key};
use crate::lifecycle::{LifecycleError, NewToken};
use crate::store::TokenRecord;

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

pub(super) async fn handle(
    State(state): State<Arc<ApiState>>,
    OriginalUri(target): OriginalUri,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let key = idempotency_key::from_headers(request.headers())?;
    let mut new = new_token(body::json_object(request).await?)?;
    if let Some(key) = key {
        new = new.with_idempotency_key(key);
    }
    let respond = |status, record: &TokenRecord, secret: Option<&str>| {
        let body = json!({ "token": secret, "service_token": state.token_json(record) });
        with_location(&target, record, json_response(status, &body))
    };
    let tokens = state.tokens_for(caller, Some(write_requirement())).await?;
    match tokens.create(new).await {
        Ok(issued) => {
            let secret = Some(issued.expose_secret());
            let response = respond(StatusCode::CREATED, issued.record(), secret);
            Ok(with_effective_within(issued.effective_within(), response))
        }
        Err(LifecycleError::AlreadyCreated(record)) => {
            let mut response = respond(StatusCode::OK, &record, None);
            let headers = response.headers_mut();
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
            Ok(response)
        }
        Err(error) => Err(state.problem(error)),
    }
}

/// Says where the token is to be found.
fn with_location(collection: &Uri, record: &TokenRecord, mut response: Response) -> Response {
    let location = format!(
        "{}/{}",
        collection.path().trim_end_matches('/'),
        record.id()
    );
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn new_token(members: Map<String, Value>) -> Result<NewToken, Problem> {
    let mut fields = Fields::new(members);
    let name = fields.string("name").value().unwrap_or_default();
    let mut new = NewToken::new(name);
    if let FieldValue::Value(text) = fields.string("description") {
        new = new.with_description(text);
    }
    if let FieldValue::Value(text) = fields.string("subject") {
        new = new.with_subject(text);
    }
    if let FieldValue::Value(roles) = fields.strings("roles") {
        new = new.with_roles(roles);
    }
    if let FieldValue::Value(scopes) = fields.strings("scopes") {
        new = new.with_scopes(scopes);
    }
    for (key, value) in fields.object("labels").value().unwrap_or_default() {
        match value {
            Value::String(value) => new = new.with_label(key, value),
            _ => fields.problem("labels", "not an object of strings"),
        }
    }
    if let FieldValue::Value(time) = fields.timestamp("not_before") {
        new = new.with_not_before(time);
    }
    if let Some(expiry) = fields.expiry() {
        new = new.with_expiry(expiry);
    }
    fields.finish()?;
    Ok(new)
}
