use std::sync::Arc;

use axum::extract::{OriginalUri, Request, State};
use axum::response::Response;
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::super::outcome::effective;
use super::body;
use super::endpoints::{Shared, json as answer};
use super::fields::{Fields, Given};
use super::problem::Problem;
use crate::lifecycle::NewToken;
use crate::principal::Principal;

pub(super) async fn handle(
    State(shared): State<Arc<Shared>>,
    OriginalUri(target): OriginalUri,
    caller: Principal,
    request: Request,
) -> Result<Response, Problem> {
    let new = new_token(body::object(request).await?)?;
    let issued = shared.tokens_for(caller).create(new).await;
    let issued = issued.map_err(|error| shared.refused(error))?;
    let record = issued.record();
    let body = json!({
        "token": issued.expose_secret(),
        "service_token": shared.shown(record),
    });
    let mut response = answer(StatusCode::CREATED, &body);
    let location = format!("{}/{}", target.path().trim_end_matches('/'), record.id());
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(effective(issued.effective_within(), response))
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
