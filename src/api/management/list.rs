use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Map, Value};

use super::problem::Problem;
use super::state::SharedState;
use crate::api::body;
use crate::api::caller::Reader;
use crate::lifecycle::Page;
use crate::wire::{FieldProblems, Filter, ListResponse, from_members, list_json};

const DEFAULT_LIMIT: usize = 50;

/// Returns one page of the tokens.
#[utoipa::path(
    get, path = "/service-tokens", operation_id = "listServiceTokens",
    params(
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000,
            description = "The maximum number of tokens. The default is 50."),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
        Filter,
    ),
    responses((status = 200, description = "One page.", body = ListResponse)),
)]
pub(super) async fn handle(
    State(state): SharedState,
    Reader(tokens): Reader,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut members = members(&query.unwrap_or_default())?;
    let [limit, cursor] = ["limit", "cursor"].map(|name| match members.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    });
    let filter: Filter = from_members(members).map_err(|problem| vec![problem])?;
    let mut problems = FieldProblems::default();
    let limit = problems.parse("/limit", limit.as_ref());
    let cursor = problems.parse("/cursor", cursor.as_ref());
    let filter = filter.parse("", &mut problems);
    let filter = problems.finish(filter)?;
    let page = Page::with_limit(limit.unwrap_or(DEFAULT_LIMIT)).after(cursor);
    let page = tokens.list(filter, page).await;
    let page = page.map_err(|error| state.error(error))?;
    let json = list_json(page.next, &page.records, state.checker.clock.now());
    Ok(body::with_json(StatusCode::OK.into_response(), json))
}

/// Returns the parameters of a query. None may be repeated.
fn members(query: &str) -> Result<Map<String, Value>, Problem> {
    let mut members = Map::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = match (&*name, &*value) {
            ("without_revoked", "true") => Value::Bool(true),
            ("without_revoked", "false") => Value::Bool(false),
            _ => Value::String(value.into_owned()),
        };
        if members.insert(name.into_owned(), value).is_some() {
            return Err(Problem::malformed("a query parameter is repeated"));
        }
    }
    Ok(members)
}
