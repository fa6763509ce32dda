use std::str::FromStr;
use std::sync::Arc;

use super::query::QueryRequirements;
use crate::principal::Requirement;

const MAX_NAME_LENGTH: usize = 64;

/// A path below `/verify` whose requirements are configured, for a proxy that appends the path and
/// query of the original request to it.
///
/// The prefix with the name `deploy` covers `/verify/deploy` and all paths below it. The rest of the
/// path, the query and the method of a request are ignored. The name is one segment, so that no
/// original path leads to another prefix.
///
/// [`FromStr`] reads the name and the requirements as in the query of `/verify`.
///
/// ```
/// use tower_service_token::api::forward_auth::VerifyPrefix;
/// use tower_service_token::principal::Requirement;
///
/// let prefix = VerifyPrefix::new("deploy")?.with_requirement(Requirement::all_roles(["deployer"]));
/// assert_eq!(prefix, "deploy?role=deployer".parse()?);
/// # Ok::<_, tower_service_token::api::forward_auth::VerifyPrefixError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct VerifyPrefix {
    name: Box<str>,
    requirements: Vec<Arc<Requirement>>,
}

impl VerifyPrefix {
    /// Creates a prefix that accepts any valid token.
    ///
    /// # Errors
    ///
    /// Returns an error if the name is not 1 to 64 ASCII letters, digits, `_` and `-`.
    pub fn new(name: &str) -> Result<Self, VerifyPrefixError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        let is_valid = (1..=MAX_NAME_LENGTH).contains(&name.len()) && name.bytes().all(is_allowed);
        if !is_valid {
            return Err(VerifyPrefixError::Name);
        }
        Ok(Self {
            name: name.into(),
            requirements: Vec::new(),
        })
    }

    /// Adds a requirement. All of them must be met. By default there is none.
    pub fn with_requirement(mut self, requirement: Requirement) -> Self {
        self.requirements.push(Arc::new(requirement));
        self
    }

    pub(super) fn has_same_name(&self, other: &Self) -> bool {
        self.name == other.name
    }

    /// Adds the requirements of another prefix.
    pub(super) fn extend(&mut self, other: Self) {
        self.requirements.extend(other.requirements);
    }

    /// Returns the routes of the prefix.
    pub(super) fn paths(&self) -> [String; 3] {
        let name = &self.name;
        ["", "/", "/{*original}"].map(|rest| format!("/verify/{name}{rest}"))
    }

    pub(super) fn into_requirements(self) -> Arc<[Arc<Requirement>]> {
        self.requirements.into()
    }
}

impl FromStr for VerifyPrefix {
    type Err = VerifyPrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, query) = text.split_once('?').unwrap_or((text, ""));
        let prefix = Self::new(name)?;
        let requirements = QueryRequirements::from_query(Some(query));
        let requirements = requirements.map_err(|_| VerifyPrefixError::Query)?;
        Ok(requirements
            .into_requirements()
            .fold(prefix, Self::with_requirement))
    }
}

/// A text is not a [`VerifyPrefix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyPrefixError {
    /// The name cannot be a segment of the path.
    #[error("the name is not 1 to 64 letters, digits, _ and -")]
    Name,
    /// The query has another parameter than `role` and `scope`, or one without a value.
    #[error("the query accepts role and scope, each with a value, at most 100 in all")]
    Query,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_name_and_a_query() {
        let requirements = |text: &str| {
            let prefix: VerifyPrefix = text.parse().expect(text);
            prefix.requirements
        };
        assert_eq!(requirements("deploy"), []);
        assert_eq!(requirements("a_B-9?"), []);
        let roles = Arc::new(Requirement::all_roles(["a b", "c"]));
        let scopes = Arc::new(Requirement::all_scopes(["x:y"]));
        let both = requirements("d?role=a%20b&scope=x:y&role=c");
        assert_eq!(both, [roles, scopes]);
        assert!("x".repeat(MAX_NAME_LENGTH).parse::<VerifyPrefix>().is_ok());
    }

    #[test]
    fn rejects_other_names_and_queries() {
        let long = "x".repeat(MAX_NAME_LENGTH + 1);
        for name in [
            "", "/", "a/b", "/a", "a/", ".", "..", "a.b", "{a}", "{*a}", "*", "a b", "%61",
            "\u{e9}", "?role=a", &long,
        ] {
            let parsed = name.parse::<VerifyPrefix>();
            assert_eq!(parsed, Err(VerifyPrefixError::Name), "{name}");
        }
        for text in [
            "a?roles=x",
            "a?role",
            "a?role=",
            "a?role=x?role=y&z",
            "a?Role=x",
        ] {
            let parsed = text.parse::<VerifyPrefix>();
            assert_eq!(parsed, Err(VerifyPrefixError::Query), "{text}");
        }
    }
}
