use std::sync::Arc;

use axum::extract::{OriginalUri, Request, State};
use axum::response::Response;
use http::header::LOCATION;
use http::{HeaderName, HeaderValue, StatusCode, Uri};
use serde_json::{Map, Value, json};

use super::super::caller::{Caller, writer};
use super::super::outcome::effective;
use super::endpoints::{Shared, json as answer};
use super::fields::{Fields, Given};
use super::problem::Problem;
use super::{body, idempotency_key};
use crate::lifecycle::{LifecycleError, NewToken};
use crate::store::TokenRecord;

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

pub(super) async fn handle(
    State(shared): State<Arc<Shared>>,
    OriginalUri(target): OriginalUri,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let key = idempotency_key::of(request.headers())?;
    let mut new = new_token(body::object(request).await?)?;
    if let Some(key) = key {
        new = new.with_idempotency_key(key);
    }
    let answer = |status, record: &TokenRecord, secret: Option<&str>| {
        let body = json!({ "token": secret, "service_token": shared.shown(record) });
        located(&target, record, answer(status, &body))
    };
    let tokens = shared.tokens_for(caller, Some(writer())).await?;
    match tokens.create(new).await {
        Ok(issued) => {
            let secret = Some(issued.expose_secret());
            let response = answer(StatusCode::CREATED, issued.record(), secret);
            Ok(effective(issued.effective_within(), response))
        }
        Err(LifecycleError::AlreadyCreated(record)) => {
            let mut response = answer(StatusCode::OK, &record, None);
            let headers = response.headers_mut();
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
            Ok(response)
        }
        Err(error) => Err(shared.refused(error)),
    }
}

/// Says where the token is to be found.
fn located(collection: &Uri, record: &TokenRecord, mut response: Response) -> Response {
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
    let name = fields.text("name").value().unwrap_or_default();
    let mut new = NewToken::new(name);
    if let Given::Value(text) = fields.text("description") {
        new = new.with_description(text);
    }
    if let Given::Value(text) = fields.text("subject") {
        new = new.with_subject(text);
    }
    if let Given::Value(roles) = fields.texts("roles") {
        new = new.with_roles(roles);
    }
    if let Given::Value(scopes) = fields.texts("scopes") {
        new = new.with_scopes(scopes);
    }
    for (key, value) in fields.object("labels").value().unwrap_or_default() {
        match value {
            Value::String(value) => new = new.with_label(key, value),
            _ => fields.problem("labels", "not an object of strings"),
        }
    }
    if let Given::Value(time) = fields.time("not_before") {
        new = new.with_not_before(time);
    }
    if let Some(expiry) = fields.expiry() {
        new = new.with_expiry(expiry);
    }
    fields.finish()?;
    Ok(new)
}
