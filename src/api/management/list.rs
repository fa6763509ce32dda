use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::endpoints::{ApiState, json_response};
use super::fields::{FieldValue, Fields};
use super::problem::Problem;
use crate::lifecycle::Page;
use crate::registry::{Cursor, TokenFilter};

const DEFAULT_LIMIT: usize = 50;

pub(super) async fn handle(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut fields = Fields::new(members(&query.unwrap_or_default())?);
    let limit = fields.parsed::<usize>("limit").value();
    let cursor = fields.parsed::<Cursor>("cursor").value();
    let filter = filter(&mut fields);
    fields.finish()?;
    let page = Page::with_limit(limit.unwrap_or(DEFAULT_LIMIT)).after(cursor);
    let page = state.tokens().list(filter, page).await;
    let page = page.map_err(|error| state.problem(error))?;
    let tokens: Vec<_> = page.records.iter().map(|it| state.token_json(it)).collect();
    let body = json!({
        "service_tokens": tokens,
        "next_cursor": page.next.map(|cursor| cursor.to_string()),
    });
    Ok(json_response(StatusCode::OK, &body))
}

/// Takes out what tokens must be like.
pub(super) fn filter(fields: &mut Fields) -> TokenFilter {
    let mut filter = TokenFilter::new();
    filter.name = fields.string("name").value();
    filter.role = fields.string("role").value();
    filter.scope = fields.string("scope").value();
    filter.subject = fields.string("subject").value();
    filter.status = fields.parsed("state").value();
    filter.expires_before = fields.timestamp("expires_before").value();
    filter.last_used_before = fields.timestamp("last_used_before").value();
    if let FieldValue::Value(label) = fields.string("label") {
        match label.split_once('=') {
            Some((key, value)) => filter = filter.with_label(key, value),
            None => fields.problem("label", "not key=value"),
        }
    }
    filter
}

/// The parameters of a query, each of which may be there once.
fn members(query: &str) -> Result<Map<String, Value>, Problem> {
    let mut members = Map::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = Value::String(value.into_owned());
        if members.insert(name.into_owned(), value).is_some() {
            return Err(Problem::malformed("a parameter is there twice"));
        }
    }
    Ok(members)
}
