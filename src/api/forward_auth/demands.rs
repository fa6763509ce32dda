use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::observe;
use crate::principal::Requirement;

/// The most roles and scopes that a query may ask for: as many as a token may have of each.
const MAX_DEMANDS: usize = 100;

/// What the query of a request asks a token to hold.
#[derive(Debug, Default)]
pub(super) struct Demands {
    roles: Vec<String>,
    scopes: Vec<String>,
}

/// A query that asks for something else, or for nothing by name.
#[derive(Debug)]
pub(super) struct UnknownDemand;

impl Demands {
    pub(super) fn read(query: Option<&str>) -> Result<Self, UnknownDemand> {
        let mut demands = Self::default();
        let parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        for (place, (name, value)) in parameters.enumerate() {
            if place == MAX_DEMANDS {
                return Err(UnknownDemand);
            }
            let names = match &*name {
                "role" => &mut demands.roles,
                "scope" => &mut demands.scopes,
                _ => return Err(UnknownDemand),
            };
            if value.is_empty() {
                return Err(UnknownDemand);
            }
            names.push(value.into_owned());
        }
        Ok(demands)
    }

    /// What must be met: nothing, if nothing was asked for.
    pub(super) fn into_requirements(self) -> impl Iterator<Item = Requirement> + Send {
        let roles = (!self.roles.is_empty()).then(|| Requirement::all_roles(self.roles));
        let scopes = (!self.scopes.is_empty()).then(|| Requirement::all_scopes(self.scopes));
        roles.into_iter().chain(scopes)
    }
}

impl IntoResponse for UnknownDemand {
    fn into_response(self) -> Response {
        observe::unknown_demand();
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
    fn only_roles_and_scopes_with_a_value_can_be_demanded() {
        let demands = Demands::read(Some("role=a%20b&scope=x:y&role=c+d")).expect("known names");
        assert_eq!(demands.roles, ["a b", "c d"]);
        assert_eq!(demands.scopes, ["x:y"]);
        for nothing in [None, Some("")] {
            let demands = Demands::read(nothing).expect("no demands");
            assert_eq!(demands.into_requirements().count(), 0);
        }
        let many = |count| vec!["role=a"; count].join("&");
        assert!(Demands::read(Some(&many(MAX_DEMANDS))).is_ok());
        assert!(Demands::read(Some(&many(MAX_DEMANDS + 1))).is_err());
        for slip in [
            "roles=a", "Role=a", "role", "role=", "role=a&x", "a", "=a", "token=a",
        ] {
            assert!(Demands::read(Some(slip)).is_err(), "{slip}");
        }
    }
}
