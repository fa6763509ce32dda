use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::endpoints::ApiState;
use super::response::success_response;
use crate::store::TokenRecord;

/// Under which name a workspace is asked for.
pub(super) const PARAMETER: &str = "workspace_uuid";

/// The label that keeps it.
pub(super) const LABEL: &str = "workspace";

pub(super) async fn list(State(state): State<Arc<ApiState>>) -> Response {
    let uuid = &state.default_workspace;
    let data = json!([{ "uuid": uuid, "id": uuid, "name": uuid }]);
    success_response(StatusCode::OK, "there is one workspace", Some(data))
}

/// The workspaces that a query names.
pub(super) fn from_query(query: Option<&str>) -> BTreeSet<String> {
    let parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let named = parameters.filter(|(name, value)| name == PARAMETER && !value.is_empty());
    named.map(|(_, value)| value.into_owned()).collect()
}

impl ApiState {
    pub(super) fn workspace_of<'a>(&'a self, record: &'a TokenRecord) -> &'a str {
        let label = record.labels().find(|(key, _)| *key == LABEL);
        label.map_or(&self.default_workspace, |(_, value)| value)
    }
}
