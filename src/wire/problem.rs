use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::lifecycle::{FieldProblem, Patch};
use crate::principal::Requirement;

/// The body of an error, `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema), schema(as = ServiceTokenProblem))]
pub(crate) struct Problem {
    #[serde(default)]
    #[cfg_attr(feature = "api", schema(required))]
    pub(crate) r#type: Cow<'static, str>,
    #[serde(default)]
    #[cfg_attr(feature = "api", schema(required))]
    pub(crate) title: Cow<'static, str>,
    #[serde(default)]
    #[cfg_attr(feature = "api", schema(required))]
    pub(crate) status: u16,
    /// A human-readable explanation.
    #[serde(default)]
    #[cfg_attr(feature = "api", schema(required))]
    pub(crate) detail: Cow<'static, str>,
    /// A machine-readable error code.
    #[serde(default)]
    #[cfg_attr(feature = "api", schema(required))]
    pub(crate) code: Cow<'static, str>,
    /// The displayed id of the token that the caller presented.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schema(schema_with = super::schema::display_id))]
    pub(crate) token_id: Option<String>,
    /// The roles or scopes that the call needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schema(nullable = false))]
    pub(crate) required: Option<RequiredNames>,
    /// Further roles or scopes that the call needs. Only `/verify` has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schema(nullable = false))]
    pub(crate) also_required: Option<Vec<RequiredNames>>,
    /// The members of the request that are wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schema(nullable = false))]
    pub(crate) errors: Option<Vec<FieldProblem>>,
    /// The roles and scopes that the caller's token lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schema(nullable = false))]
    pub(crate) missing: Option<Vec<String>>,
    /// The number of matching tokens that the caller may not revoke.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schema(nullable = false))]
    pub(crate) forbidden: Option<usize>,
    /// The `expect` of the call. `null` if the call needs one and had none.
    #[serde(default, skip_serializing_if = "Patch::is_keep")]
    #[cfg_attr(feature = "api", schema(value_type = Option<usize>))]
    pub(crate) expected: Patch<usize>,
    /// The number of tokens that the filter matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schema(nullable = false))]
    pub(crate) found: Option<usize>,
}

/// The roles or scopes that a call needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema), schema(as = ServiceTokenRequiredNames))]
pub(crate) struct RequiredNames {
    /// `any` or `all` of the names.
    #[serde(rename = "match")]
    pub(crate) matching: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schema(nullable = false))]
    pub(crate) roles: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", schema(nullable = false))]
    pub(crate) scopes: Option<Vec<String>>,
}

impl RequiredNames {
    /// Merges the `all` requirements into one entry. Each `any` requirement keeps its own. Entries are in
    /// order of first occurrence.
    pub(crate) fn from_requirements<'a>(
        requirements: impl Iterator<Item = &'a Requirement>,
    ) -> Vec<Self> {
        let mut combined: Vec<Self> = Vec::new();
        for requirement in requirements {
            let names = Self::from(requirement);
            let all = combined.iter_mut().find(|it| it.matching == "all");
            match all.filter(|_| requirement.requires_all()) {
                Some(all) => all.extend(names),
                None => combined.push(names),
            }
        }
        combined
    }

    fn extend(&mut self, other: Self) {
        for (names, others) in [
            (&mut self.roles, other.roles),
            (&mut self.scopes, other.scopes),
        ] {
            if let Some(others) = others {
                names.get_or_insert_default().extend(others);
            }
        }
    }
}

impl From<&Requirement> for RequiredNames {
    fn from(required: &Requirement) -> Self {
        let names = Some(required.names().map(str::to_owned).collect());
        let (roles, scopes) = if required.requires_scopes() {
            (None, names)
        } else {
            (names, None)
        };
        let matching = if required.requires_all() {
            "all"
        } else {
            "any"
        };
        Self {
            matching: matching.into(),
            roles,
            scopes,
        }
    }
}

impl Problem {
    pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

    /// Creates a problem with the title of the status.
    pub(crate) fn new(
        status: http::StatusCode,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            r#type: "about:blank".into(),
            title: status.canonical_reason().unwrap_or_default().into(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.into(),
            ..Self::default()
        }
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a problem is plain data")
    }
}
