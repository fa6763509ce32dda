use std::collections::BTreeSet;

/// The query parameter and the member of a creation that name a workspace.
const PARAMETER: &str = "workspace_uuid";

pub(super) const POINTER: &str = "/workspace_uuid";
pub(super) const TWO: &str = "the request names two workspaces";

/// The label that stores the workspace.
pub(super) const LABEL: &str = "workspace";

/// Returns the workspaces that a query names.
pub(super) fn from_query(query: Option<&str>) -> BTreeSet<String> {
    let parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let named = parameters.filter(|(name, value)| name == PARAMETER && !value.is_empty());
    named.map(|(_, value)| value.into_owned()).collect()
}
