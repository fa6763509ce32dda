use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::observe;
use crate::principal::Requirement;

/// The most roles and scopes that a query may ask for: as many as a token may have of each.
const MAX_PARAMETERS: usize = 100;

/// What the query of a request asks a token to hold.
#[derive(Debug, Default)]
pub(super) struct RequiredGrants {
    roles: Vec<String>,
    scopes: Vec<String>,
}

/// A query that asks for something else, or for nothing by name.
#[derive(Debug)]
pub(super) struct InvalidQuery;

impl RequiredGrants {
    pub(super) fn from_query(query: Option<&str>) -> Result<Self, InvalidQuery> {
        let mut grants = Self::default();
        let parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        for (place, (name, value)) in parameters.enumerate() {
            if place == MAX_PARAMETERS {
                return Err(InvalidQuery);
            }
            let names = match &*name {
                "role" => &mut grants.roles,
                "scope" => &mut grants.scopes,
                _ => return Err(InvalidQuery),
            };
            if value.is_empty() {
                return Err(InvalidQuery);
            }
            names.push(value.into_owned());
        }
        Ok(grants)
    }

    /// What must be met: nothing, if nothing was asked for.
    pub(super) fn into_requirements(self) -> impl Iterator<Item = Requirement> + Send {
        let roles = (!self.roles.is_empty()).then(|| Requirement::all_roles(self.roles));
        let scopes = (!self.scopes.is_empty()).then(|| Requirement::all_scopes(self.scopes));
        roles.into_iter().chain(scopes)
    }
}

impl IntoResponse for InvalidQuery {
    fn into_response(self) -> Response {
        observe::unknown_query_parameter();
        let headers = [
            (CONTENT_TYPE, "application/problem+json"),
            (CACHE_CONTROL, "no-store"),
        ];
        let body = concat!(
            r#"{"type":"about:blank","title":"Bad Request","status":400,"#,
            r#""detail":"the query may hold role and scope, each with a value, at most 100 in all","#,
            r#""code":"invalid_request"}"#,
        );
        (StatusCode::BAD_REQUEST, headers, body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_accepts_only_roles_and_scopes_with_a_value() {
        let grants =
            RequiredGrants::from_query(Some("role=a%20b&scope=x:y&role=c+d")).expect("known names");
        assert_eq!(grants.roles, ["a b", "c d"]);
        assert_eq!(grants.scopes, ["x:y"]);
        for nothing in [None, Some("")] {
            let grants = RequiredGrants::from_query(nothing).expect("no grants");
            assert_eq!(grants.into_requirements().count(), 0);
        }
        let many = |count| vec!["role=a"; count].join("&");
        assert!(RequiredGrants::from_query(Some(&many(MAX_PARAMETERS))).is_ok());
        assert!(RequiredGrants::from_query(Some(&many(MAX_PARAMETERS + 1))).is_err());
        for slip in [
            "roles=a", "Role=a", "role", "role=", "role=a&x", "a", "=a", "token=a",
        ] {
            assert!(RequiredGrants::from_query(Some(slip)).is_err(), "{slip}");
        }
    }
}
