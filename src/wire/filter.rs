use serde::{Deserialize, Deserializer, Serialize};

#[cfg(feature = "api")]
use super::field::FieldProblems;
use super::field::rfc_3339;
use super::integer::SaturatingInteger;
#[cfg(feature = "api")]
use super::schema;
use super::token_info::TokenInfo;
#[cfg(feature = "api")]
use crate::clock::date_time;
use crate::lifecycle::FieldProblem;
use crate::registry::TokenFilter;
#[cfg(feature = "api")]
use crate::token::id::parse_decimal;

/// The conditions on tokens, as query parameters of a listing or as members of a bulk revocation.
/// A token matches if it meets all of them.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema, utoipa::IntoParams), schema(as = ServiceTokenFilter), into_params(parameter_in = Query))]
pub(crate) struct Filter {
    /// The name.
    name: Option<String>,
    /// The number of the id, of at most 13 digits, as clients with integer ids show it.
    #[serde(default, deserialize_with = "number")]
    #[cfg_attr(
        feature = "api",
        schema(schema_with = schema::number_or_null),
        param(schema_with = schema::number)
    )]
    number: Option<String>,
    /// One of the roles.
    role: Option<String>,
    /// One of the scopes.
    scope: Option<String>,
    /// The subject.
    subject: Option<String>,
    /// The owner.
    // Absent if there is none, as `without_revoked`: an earlier server rejects the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// The state.
    #[cfg_attr(feature = "api", schema(schema_with = schema::state_or_null), param(schema_with = schema::state))]
    state: Option<String>,
    /// Whether to leave out revoked tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "api", param(nullable = false))]
    without_revoked: Option<bool>,
    /// A label, as `key=value`.
    #[cfg_attr(
        feature = "api",
        schema(pattern = "="),
        param(pattern = "=", nullable = false)
    )]
    label: Option<String>,
    /// Expires before this time.
    #[cfg_attr(feature = "api", schema(schema_with = schema::expires_before), param(schema_with = schema::start))]
    expires_before: Option<String>,
    /// Last used, or created, before this time.
    #[cfg_attr(feature = "api", schema(schema_with = schema::last_used_before), param(schema_with = schema::start))]
    last_used_before: Option<String>,
}

/// One page of a listing. `list_json` writes it.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema), schema(as = ServiceTokenList))]
#[cfg_attr(
    not(any(feature = "client", test)),
    expect(dead_code, reason = "only describes the body")
)]
pub(crate) struct ListResponse {
    /// The cursor of the next page. `null` on the last page.
    #[cfg_attr(feature = "api", schema(required))]
    pub(crate) next_cursor: Option<String>,
    pub(crate) service_tokens: Vec<TokenInfo>,
}

#[cfg(feature = "api")]
impl Filter {
    /// Parses the conditions. `parent` is the pointer to the object that holds them, of a bulk
    /// revocation. It is empty for a query.
    pub(crate) fn parse(self, parent: &str, problems: &mut FieldProblems) -> TokenFilter {
        let pointer = |name: &str| format!("{parent}/{name}");
        let mut filter = TokenFilter::new();
        filter.number = self.number.as_deref().and_then(|text| {
            let number = parse_number(text);
            if number.is_none() {
                problems.push(pointer("number"), "not a number of at most 13 digits");
            }
            number
        });
        filter.status = problems.parse(pointer("state"), self.state.as_ref());
        let is_bulk = !parent.is_empty();
        let mut time = |name: &str, text: Option<String>| {
            let is_later = text.as_deref().is_some_and(date_time::has_later_year);
            if is_bulk && is_later {
                // Every token would match.
                problems.push(pointer(name), "the year must not be after 9999");
                return None;
            }
            problems.time(pointer(name), text.as_ref())
        };
        filter.expires_before = time("expires_before", self.expires_before);
        filter.last_used_before = time("last_used_before", self.last_used_before);
        (filter.name, filter.role) = (self.name, self.role);
        (filter.scope, filter.subject) = (self.scope, self.subject);
        filter.owner = self.owner;
        filter.without_revoked = self.without_revoked.unwrap_or(false);
        if let Some(label) = self.label {
            match label.split_once('=') {
                Some((key, value)) => filter = filter.with_label(key, value),
                None => problems.push(pointer("label"), "not key=value"),
            }
        }
        filter
    }
}

/// Deserializes a JSON integer or a string. Query parameters are strings.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "not a number of at most 13 digits")]
    enum Number {
        Integer(SaturatingInteger),
        Text(String),
    }
    let number = Option::<Number>::deserialize(deserializer)?;
    Ok(number.map(|number| match number {
        Number::Integer(number) => number.0.to_string(),
        Number::Text(text) => text,
    }))
}

#[cfg(feature = "api")]
fn parse_number(text: &str) -> Option<i64> {
    parse_decimal(text).filter(|_| text.len() <= 13)
}

#[cfg(feature = "client")]
impl Filter {
    /// Returns the conditions as query parameters.
    pub(crate) fn into_query(self) -> Vec<(&'static str, String)> {
        let without_revoked = self.without_revoked.map(|is_set| is_set.to_string());
        let conditions = [
            ("name", self.name),
            ("number", self.number),
            ("role", self.role),
            ("scope", self.scope),
            ("subject", self.subject),
            ("owner", self.owner),
            ("state", self.state),
            ("without_revoked", without_revoked),
            ("label", self.label),
            ("expires_before", self.expires_before),
            ("last_used_before", self.last_used_before),
        ];
        let conditions = conditions.into_iter();
        let set = conditions.filter_map(|(name, value)| Some((name, value?)));
        set.collect()
    }
}

impl TryFrom<&TokenFilter> for Filter {
    type Error = FieldProblem;

    fn try_from(filter: &TokenFilter) -> Result<Self, FieldProblem> {
        let unsupported = |field: &str| {
            let detail = "the management API has no such filter";
            FieldProblem::new(format!("/filter/{field}"), detail)
        };
        if filter.label_or_none.is_some() {
            return Err(unsupported("label_or_none"));
        }
        let label = match &filter.label {
            // The server would split the pair at the first equals sign.
            Some((key, _)) if key.contains('=') => {
                let detail = "the key of the label has an equals sign";
                return Err(FieldProblem::new("/filter/label", detail));
            }
            label => label.as_ref().map(|(key, value)| format!("{key}={value}")),
        };
        let expires_before = filter.expires_before;
        let expires_before = expires_before.map(|end| rfc_3339("/filter/expires_before", end));
        let last_used_before = filter.last_used_before;
        let last_used_before =
            last_used_before.map(|end| rfc_3339("/filter/last_used_before", end));
        Ok(Self {
            name: filter.name.clone(),
            number: filter.number.map(|number| number.to_string()),
            role: filter.role.clone(),
            scope: filter.scope.clone(),
            subject: filter.subject.clone(),
            owner: filter.owner.clone(),
            state: filter.status.map(|status| status.to_string()),
            without_revoked: filter.without_revoked.then_some(true),
            label,
            expires_before: expires_before.transpose()?,
            last_used_before: last_used_before.transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_filters_that_the_api_lacks() {
        for (filter, pointer) in [
            (
                TokenFilter::new().with_label_or_none("a", "b"),
                "/filter/label_or_none",
            ),
            (TokenFilter::new().with_label("a=b", "c"), "/filter/label"),
        ] {
            let Err(problem) = Filter::try_from(&filter) else {
                panic!("{pointer}");
            };
            assert_eq!(problem.pointer, pointer);
        }
    }
}
