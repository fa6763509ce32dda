use std::collections::BTreeSet;

use crate::lifecycle::FieldProblem;
use crate::store::TokenRecord;

/// The query parameter and the member of a creation that name a workspace.
const PARAMETER: &str = "workspace_uuid";

pub(super) const POINTER: &str = "/workspace_uuid";
pub(super) const TWO: &str = "the request names two workspaces";

/// The label that stores the workspace.
pub(super) const LABEL: &str = "workspace";

/// Returns the workspaces that a query names.
pub(super) fn all_from_query(query: Option<&str>) -> BTreeSet<String> {
    let parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let named = parameters.filter(|(name, value)| name == PARAMETER && !value.is_empty());
    named.map(|(_, value)| value.into_owned()).collect()
}

/// Returns the workspace that a query names, if any. Returns an error if it names two.
pub(super) fn from_query(query: Option<&str>) -> Result<Option<String>, Vec<FieldProblem>> {
    let mut workspaces = all_from_query(query);
    let workspace = workspaces.pop_first();
    if workspaces.is_empty() {
        Ok(workspace)
    } else {
        Err(vec![FieldProblem::new(POINTER, TWO)])
    }
}

/// Returns the workspace of a token.
pub(super) fn of_token<'a>(record: &'a TokenRecord, default_workspace: &'a str) -> &'a str {
    let mut labels = record.labels();
    let workspace = labels.find(|(key, _)| *key == LABEL);
    workspace.map_or(default_workspace, |(_, value)| value)
}
