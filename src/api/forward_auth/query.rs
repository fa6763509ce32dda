use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::api::body;
use crate::observe;
use crate::principal::Requirement;

/// The maximum number of roles and scopes in a query: as many as a token may have of each.
const MAX_REQUIREMENTS: usize = 100;

/// The roles and scopes that a token needs, from the query of a request, each once.
#[derive(Debug, Default)]
pub(super) struct QueryRequirements {
    roles: Vec<String>,
    scopes: Vec<String>,
}

/// The query has another parameter, or one without a value.
#[derive(Debug)]
pub(super) struct InvalidQuery;

impl QueryRequirements {
    pub(super) fn from_query(query: Option<&str>) -> Result<Self, InvalidQuery> {
        let mut requirements = Self::default();
        let parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        for (place, (name, value)) in parameters.enumerate() {
            if place == MAX_REQUIREMENTS {
                return Err(InvalidQuery);
            }
            let names = match &*name {
                "role" => &mut requirements.roles,
                "scope" => &mut requirements.scopes,
                _ => return Err(InvalidQuery),
            };
            if value.is_empty() {
                return Err(InvalidQuery);
            }
            if !names.iter().any(|name| *name == value) {
                names.push(value.into_owned());
            }
        }
        Ok(requirements)
    }

    /// Returns the requirements. Without parameters there are none.
    pub(super) fn into_requirements(self) -> impl Iterator<Item = Requirement> + Send {
        let roles = (!self.roles.is_empty()).then(|| Requirement::all_roles(self.roles));
        let scopes = (!self.scopes.is_empty()).then(|| Requirement::all_scopes(self.scopes));
        roles.into_iter().chain(scopes)
    }
}

impl IntoResponse for InvalidQuery {
    fn into_response(self) -> Response {
        observe::invalid_forward_auth_query();
        let status = StatusCode::BAD_REQUEST;
        let detail = "the query accepts role and scope, each with a value, at most 100 in all";
        body::problem_response(status, "invalid_request", detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_roles_and_scopes_with_a_value() {
        let requirements = QueryRequirements::from_query(Some("role=a%20b&scope=x:y&role=c+d"))
            .expect("known names");
        assert_eq!(requirements.roles, ["a b", "c d"]);
        assert_eq!(requirements.scopes, ["x:y"]);
        let requirements = QueryRequirements::from_query(Some("role=a&scope=x&role=a&scope=x"));
        let requirements = requirements.expect("known names");
        assert_eq!(
            (requirements.roles, requirements.scopes),
            (vec!["a".into()], vec!["x".into()])
        );
        for nothing in [None, Some("")] {
            let requirements = QueryRequirements::from_query(nothing).expect("no requirements");
            assert_eq!(requirements.into_requirements().count(), 0);
        }
        let many = |count| vec!["role=a"; count].join("&");
        assert!(QueryRequirements::from_query(Some(&many(MAX_REQUIREMENTS))).is_ok());
        assert!(QueryRequirements::from_query(Some(&many(MAX_REQUIREMENTS + 1))).is_err());
        for slip in [
            "roles=a", "Role=a", "role", "role=", "role=a&x", "a", "=a", "token=a",
        ] {
            assert!(QueryRequirements::from_query(Some(slip)).is_err(), "{slip}");
        }
    }
}
